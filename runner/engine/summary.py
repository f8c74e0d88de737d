"""Report of a job: the figures of all ranks, gathered at its end into `report.json` and `timeline.json`."""

import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from runner.comm import Comm
from runner.config.options import Config
from runner.core.secrets import hide_secrets
from runner.engine.baseline import Speed
from runner.host.command_line import launcher_command, own_command
from runner.host.launch import take_warnings
from runner.host.process import peak_rss_bytes
from runner.host.versions import describe_environment
from runner.records.recorder import Recorder
from runner.telemetry.efficiency import find_efficiency
from runner.telemetry.report import Report
from runner.telemetry.stats import RankStats
from runner.telemetry.timeline import MAIN_PHASES, OTHER_PHASES, Timeline

_WAITS = ("data_wait", "backpressure", "sync_wait")
_MOST_BINS, _MOST_CELLS = 240, 30_000  # of the timeline; cells are bins of all ranks


@dataclass(frozen=True)
class Outcome:
    """Facts of a job that only rank 0 knows, beside the figures of the ranks and of the recorder; see `Report`.

    Attributes:
        num_chunks: number of chunks that this job had to compute.
        began: start of the job, in seconds since the epoch.
        stopped_by: the reason for which it may have stopped early; empty where there is none.
        alone: the speed of one rank alone, where it was measured.
    """

    num_rows: int
    num_chunks: int
    collect_bytes: int
    began: float
    wall_seconds: float
    stopped_by: str
    canary: str
    alone: Speed | None


def aggregate(
    config: Config, comm: Comm, recorder: Recorder | None, stats: RankStats, timeline: Timeline, outcome: Outcome | None
) -> Report:
    """Make the report of a job that has ended, and store it; every rank calls it with its own figures.

    Raises:
        OutputError: the storage failed; on every rank alike.
    """
    _complete(stats, timeline)
    told = comm.gather_all((stats, timeline.latencies))
    timelines = _gather_timelines(comm, timeline)

    def make() -> Report:
        assert recorder is not None
        assert outcome is not None
        latencies = [sum(counts) for counts in zip(*(counts for _, counts in told), strict=True)]
        report = _make_report(config, comm, recorder, [rank for rank, _ in told], latencies, outcome)
        recorder.write_report(report.to_json(), json.dumps(timelines, separators=(",", ":")) + "\n")
        return report

    return comm.on_root(make)


def _complete(stats: RankStats, timeline: Timeline) -> None:
    """Copy the figures of a rank's timeline into its statistics."""
    timeline.end()
    seconds = timeline.seconds()
    stats.seconds = seconds | {"wait": sum(seconds[phase] for phase in _WAITS)}
    if stats.group_seconds:  # a group's first rank also counts calls for --baseline, which are not part of its forward
        forward = seconds["forward"]
        stats.group_seconds = min(forward, stats.group_seconds * forward / (forward + seconds["baseline"] or 1.0))
    stats.began = timeline.began
    stats.batches = timeline.batches
    stats.slowest_batch_seconds = timeline.slowest_seconds
    stats.batch_seconds = timeline.batch_seconds / max(1, timeline.batches)
    stats.peak_rss_bytes = peak_rss_bytes()
    if stats.device.startswith("cuda"):
        stats.peak_gpu_bytes = torch.cuda.max_memory_allocated()


def _gather_timelines(comm: Comm, timeline: Timeline) -> dict[str, Any]:
    """Gather the timelines of all ranks in the form of `timeline.json`; every rank calls it.

    Returns:
        `began` and `ended`, in seconds since rank 0's process started; `bins`, their number; `phases`, by phase, rank
        and bin the share of its time in per cent; `rows`, rows by bin; `main` and `others`, the phases of the main
        thread and of other threads.
    """
    spans = comm.gather_all((timeline.began, timeline.now()))
    began = min(first for first, _ in spans)
    ended = max(last for _, last in spans)
    bins = max(24, min(_MOST_BINS, _MOST_CELLS // comm.world.world_size))
    ranks = comm.gather_all(timeline.sampled(np.linspace(began, ended, bins + 1)))
    phases = [phase for phase in (*MAIN_PHASES, *OTHER_PHASES) if any(phase in rank for rank in ranks)]
    nothing = np.zeros(bins, np.uint8)
    return {
        "began": began,
        "ended": ended,
        "bins": bins,
        "main": [phase for phase in phases if phase in MAIN_PHASES],
        "others": [phase for phase in phases if phase in OTHER_PHASES],
        "phases": {phase: [rank.get(phase, nothing).tolist() for rank in ranks] for phase in phases},
        "rows": np.sum([rank["rows"] for rank in ranks], axis=0).round(1).tolist(),
    }


def _make_report(
    config: Config, comm: Comm, recorder: Recorder, ranks: list[RankStats], latencies: list[int], outcome: Outcome
) -> Report:
    computed_rows = sum(rank.rows for rank in ranks)
    remaining_rows = outcome.num_rows - computed_rows - recorder.resumed_rows - recorder.bad_rows
    loop_seconds = max(rank.loop_seconds for rank in ranks)
    rows_per_second = computed_rows / loop_seconds
    alone = outcome.alone
    speeds = None
    if alone is not None and alone.seconds and alone.forward_seconds:
        speeds = (alone.rows / alone.seconds, alone.rows / alone.forward_seconds)
    return Report(
        status="stopped" if remaining_rows else "whole",
        stopped_by=outcome.stopped_by if remaining_rows else "",
        num_rows=outcome.num_rows,
        computed_rows=computed_rows,
        resumed_rows=recorder.resumed_rows,
        quarantined_rows=recorder.bad_rows,
        remaining_rows=remaining_rows,
        nonfinite_rows=recorder.nonfinite_rows,
        halved_rows=recorder.split_rows,
        cut_rows=recorder.cut_rows,
        cut_tokens=recorder.cut_tokens,
        token_limit=recorder.token_limit,
        counts=dict(recorder.counts),
        canary=outcome.canary,
        warnings=take_warnings(),
        world_size=comm.world.world_size,
        wall_seconds=outcome.wall_seconds,
        startup_seconds=ranks[0].startup_seconds,
        loop_seconds=loop_seconds,
        rows_per_second=rows_per_second,
        efficiency=find_efficiency(
            ranks[:: config.model_parallel],
            rows_per_second,
            loop_seconds,
            outcome.num_chunks,
            speeds,
            config.model_parallel,
        ),
        latencies=latencies,
        collect_bytes=outcome.collect_bytes,
        broadcast_bytes=comm.broadcast_bytes,
        broadcast_seconds=comm.broadcast_seconds,
        peak_rss_bytes=[rank.peak_rss_bytes for rank in ranks],
        output=config.output and hide_secrets(config.output),
        launcher=comm.world.launcher,
        started=time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(outcome.began)),
        epoch=outcome.began,
        command=own_command(),
        launcher_command=launcher_command(),
        config=config.resolved(),
        environment=describe_environment(comm.library),
        ranks=ranks,
    )
