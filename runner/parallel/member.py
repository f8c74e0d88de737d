"""The membership of a rank in a group of ranks that hold one replica of the model together."""

from typing import Any, NoReturn

import torch

from runner.comm import Comm, connect_leaders
from runner.comm.groups import Groups
from runner.comm.watchdog import Activity
from runner.comm.workers import describe_workers, share_threads
from runner.config.options import Config
from runner.core.errors import RunnerError, UsageError, describe, shared
from runner.core.shortage import is_memory_shortage
from runner.core.text import plural
from runner.engine.summary import aggregate
from runner.host.devices import device_kind, local_device
from runner.host.launch import Launch, warn
from runner.parallel.build import build_split
from runner.parallel.channel import Channel
from runner.parallel.group_timer import GroupTimer
from runner.parallel.replica import Replica, call_part
from runner.telemetry.report import Report
from runner.telemetry.stats import RankStats
from runner.telemetry.timeline import Timeline

_BUILD = "build"
_CALL = "call"
_CHECK = "check"
_ALIGN = "align"
_AGGREGATE = "aggregate"
_END = "end"


class GroupMember:
    """The membership of a rank in a model-parallel group; every rank makes one at the same point.

    Attributes:
        everyone: all ranks.
        leaders: the first ranks of the groups; None on the others.
        threads, device: CPU threads and device of this rank.
        summary: description of the job's ranks.
        group_timer: time this rank exchanges tensors with its group, or waits for it, in the loop.

    Raises:
        UsageError: the groups are impossible; on every rank alike.
    """

    def __init__(self, config: Config, launch: Launch, everyone: Comm) -> None:
        size = config.model_parallel
        world_size = everyone.world.world_size
        if world_size % size:
            raise shared(
                UsageError(
                    f"--model-parallel {size} does not divide the {plural(world_size, 'rank')} of this job; use a "
                    f"multiple of {size}"
                )
            )
        self._has_failed = False  # whether the last call failed
        self._config = config
        self.everyone = everyone
        self._groups = Groups(world_size, size, config.pipeline_stages)
        self.threads = share_threads(config, everyone)
        self.device = everyone.on_each(lambda: local_device(config, everyone.world.local_rank))
        self.summary = f"{describe_workers(everyone, self.threads)}, {self._groups.describe()}"
        warn(everyone.world, _groups_apart(self._groups, everyone.gather_all(everyone.world.host)))
        self.group_timer, self._part_bytes = GroupTimer(self.device, samples=size > config.pipeline_stages), 0
        self._channel = Channel(everyone, self._groups, self.device)
        self.leaders = connect_leaders(everyone, size, launch, config.comm, config.collect, device_kind(config))

    def build(self) -> tuple[Replica, str]:
        """Return, on a leader, the replica that the group calls together, and the digest of the complete weights."""
        self._channel.send((_BUILD, None))
        model, digest = self._build()
        return Replica(model, self._send_call, self._check, self.device, self.group_timer), digest

    def align(self, root_now: float) -> None:
        """Align, on a leader, the members' clocks with rank 0's, whose `now()` is `root_now`."""
        self._channel.send((_ALIGN, root_now))
        self.group_timer.begin()

    def aggregate(self, stats: RankStats) -> None:
        """Start, on a leader, the report that all ranks make together, and record this rank's figures in `stats`."""
        self._channel.send((_AGGREGATE, None))
        self._complete(stats)

    def end(self, error: RunnerError | None) -> None:
        """End, on a leader, the members' work, with or without an error; all leaders call this."""
        assert self.leaders is not None
        self._channel.send((_END, error))
        self._channel.close()
        self.leaders.close()

    def serve(self, stats: RankStats, timeline: Timeline, activity: Activity) -> Report | None:
        """Follow, on a member, the leader's messages until the job ends; return the report, if one was made.

        Raises:
            RunnerError: the error with which the leader ended.
        """
        model: Any = None
        report: Report | None = None
        computes = "checks"
        waits = "checks"
        while True:
            activity.wait()
            kind, what = self._channel.receive()
            activity.begin(f"{kind} with its group")
            if kind == _BUILD:
                timeline.turn("model")
                model = self._try(self._build)
                model = model and model[0]
                timeline.turn("checks")
            elif kind == _CALL:
                timeline.turn(computes)
                self._call(model, *what)
                timeline.turn(waits)
            elif kind == _CHECK:
                self._channel.count(self._has_failed)
            elif kind == _ALIGN:
                timeline.align(what)
                computes, waits = "forward", "data_wait"
                timeline.turn(waits)
                self.group_timer.begin()
            elif kind == _AGGREGATE:
                timeline.turn("finish")
                self._complete(stats)
                report = self._try(lambda: aggregate(self._config, self.everyone, None, stats, timeline, None))
            else:
                self._channel.close()
                if what is not None:
                    what.shared = True
                    raise what
                return report

    def _send_call(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._channel.send((_CALL, (inputs, named)))

    def _check(self, error: Exception) -> None:
        """Handle a failed call on a leader: if all members failed, too, the rows are to blame; else the job ends."""
        if is_memory_shortage(error):
            self._fail(
                f"a batch ran out of memory in this part of the model: {describe(error)}. Use a smaller --batch-size"
            )
        try:
            self._channel.send((_CHECK, None))
            failed = self._channel.count(True)
        except Exception as broken:
            self._fail(f"its group is broken: {describe(broken)}. Another rank of it has died or failed")
        if failed != self._groups.size:
            self._fail(f"{failed} of the {self._groups.size} ranks of the group failed, this one by {describe(error)}")

    def _fail(self, message: str) -> NoReturn:
        self.everyone.abort(RunnerError(message))
        raise SystemExit(RunnerError.exit_code)  # not reached: the job has been aborted

    def _build(self) -> tuple[Any, str]:
        model, digest, self._part_bytes = build_split(
            self._config, self.everyone, self._groups, self._channel.mesh, self.device, self.group_timer.waiting
        )
        return model, digest

    def _complete(self, stats: RankStats) -> None:
        stats.part_bytes, stats.group_seconds = self._part_bytes, self.group_timer.seconds

    def _call(self, model: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        try:
            with torch.inference_mode():
                call_part(model, inputs, named, self.device, self.group_timer)
            self._has_failed = False
        except Exception as error:
            if is_memory_shortage(error):
                raise
            self._has_failed = True  # the leader failed as well, and handles it

    def _try(self, function: Any) -> Any:
        """Run a step that all ranks run together; return None if it failed on all: the leader will then end the job."""
        try:
            return function()
        except RunnerError as error:
            if not error.shared:
                raise
            return None


def _groups_apart(groups: Groups, hosts: list[str]) -> str:
    """Describe the groups that split layers across several hosts; empty where there are none."""
    size = groups.tensor_size
    members = [range(first, first + size) for first in range(0, groups.world_size, size)]
    apart = [ranks for ranks in members if len({hosts[rank] for rank in ranks}) > 1]
    if not apart:
        return ""
    between = " and ".join(dict.fromkeys(hosts[rank] for rank in apart[0]))
    return (
        f"layers are split over several hosts in {len(apart)} of {plural(len(members), 'set')} of {size} ranks, such "
        f"as ranks {apart[0][0]} to {apart[0][-1]} on {between}: every second layer waits for the network. Use a "
        f"number of ranks per host that {size} divides, or let each host hold complete layers with --pipeline-stages"
    )
