"""The first stage of a job: connect the ranks and start their monitoring; also the end of a job that fails."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch

from runner.comm import Comm, connect
from runner.comm.watchdog import Watchdog
from runner.comm.workers import share_threads
from runner.config.options import Config
from runner.core.errors import Interrupted, as_runner_error, shared
from runner.core.messages import open_closed_streams
from runner.host.allocation import unused
from runner.host.cpus import cpu_share, prevent_binding
from runner.host.devices import deadline, device_kind, gpu_name, local_device, shared_gpus
from runner.host.isolation import isolated_ranks
from runner.host.launch import Launch, detect_launch, set_log_defaults, single_world, take_warnings, warn
from runner.host.notebook import in_notebook, job_start
from runner.host.process import is_on_launchers_host, own_origin
from runner.host.scheduler import in_slurm_job, left_over_job
from runner.host.stop import REASONS, Stop
from runner.job.context import Session
from runner.job.finish import draw_page
from runner.records.failure import FailureRecord
from runner.records.file_recorder import FileRecorder
from runner.records.memory_recorder import MemoryRecorder
from runner.records.recorder import Recorder
from runner.telemetry.log import PhaseTracker, make_timeline, rank_logging
from runner.telemetry.stats import RankStats
from runner.telemetry.timeline import Timeline

if TYPE_CHECKING:
    from runner.parallel.member import GroupMember


_NOTICE = "runner: stopping. What is recorded is kept; the same command resumes. Another ^C ends at once"


@contextmanager
def open_session(config: Config) -> Iterator[Session]:
    """Connect the ranks for the duration of a `with` block; every rank calls it.

    Raises:
        RunnerError: any error raised in the block; on every rank alike, or this rank has ended the job for all.
    """
    began = job_start()
    open_closed_streams()
    launch = detect_launch()
    notice = _NOTICE if launch.rank == 0 and not in_notebook() else ""
    origin = own_origin() if launch.launcher != "none" else None
    with (
        Stop(deadline(config, began), notice, origin) as stop,
        _connected(config, launch, began, stop) as session,
    ):
        yield session


@contextmanager
def _connected(config: Config, launch: Launch, began: float, stop: Stop) -> Iterator[Session]:
    timeline = make_timeline(time.time() - began, config.trace, config.verbose)
    timeline.turn("connect")
    take_warnings()  # those of an earlier job in this process
    is_split = config.model_parallel > 1
    if launch.world_size > 1:  # a single process starts neither, and may live on
        set_log_defaults(config.verbose)
    backend = "mpi" if is_split else config.comm
    if config.trace:  # most jobs do not trace and need not pay for the import
        from runner.reports.trace import horovods_timeline, write_trace
    if launch.rank == 0:  # before MPI starts, which may crash
        warn(single_world(launch.launcher), isolated_ranks())
    with horovods_timeline(config) if config.trace else nullcontext() as horovods:
        comm = connect(launch, backend, config.collect, device_kind(config), config.stall_timeout)
    failure = FailureRecord(config.output, comm.world)
    group = None
    try:
        with (
            rank_logging(comm.world, config.verbose),
            _make_recorder(config) as recorder,
            Watchdog(comm, config.stall_timeout, failure.note) as watchdog,
        ):
            group = join_group(config, launch, comm) if is_split else None
            phases = PhaseTracker(comm.world, watchdog, timeline)
            phases.end(f"connected: launcher {comm.world.launcher}, {comm.library or 'no MPI'}")
            phases.begin("data", "opening the data")
            warn(comm.world, left_over_job())
            warn(comm.world, unused(cpu_share(comm.world.host).most) if in_slurm_job() else "")
            warn(comm.world, prevent_binding() if comm.world.world_size > 1 else "")
            threads = group.threads if group else share_threads(config, comm)
            device = group.device if group else comm.on_each(lambda: local_device(config, comm.world.local_rank))
            ranks = comm.gather_all((comm.world.host, comm.world.who, gpu_name(device)))
            warn(comm.world, shared_gpus([(who, gpu) for _, who, gpu in ranks]))
            if comm.world.world_size > 1:
                _choose_who_tells(stop, comm)
            stats = RankStats(comm.world.rank, comm.world.host, str(device), threads)
            computing = group.leaders if group and group.leaders else comm
            monitors = recorder, failure, stop, watchdog, phases, timeline, stats
            yield Session(config, comm, computing, group, device, *monitors, began, Counter(host for host, *_ in ranks))
            if config.trace:
                write_trace(config, comm, timeline, horovods)
    except BaseException as exception:
        error = as_runner_error(exception)
        if failure.note(error) and comm.world.rank == 0:
            draw_page(config)
        if error.shared:
            if group and group.leaders:
                group.end(error)
            comm.close()
        else:
            comm.abort(error)
        raise error from exception
    comm.close()


def _choose_who_tells(stop: Stop, comm: Comm) -> None:
    """Let a rank on mpirun's host tell of a stop: at a signal, mpirun ends its own ranks first, and others by that."""
    tells = next((rank for rank, is_here in enumerate(comm.gather_all(is_on_launchers_host())) if is_here), 0)
    stop.notice = _NOTICE if comm.world.rank == tells else ""


def heed_stop(session: Session) -> None:
    """Raise Interrupted, on every rank alike, if one was asked to stop before a row is computed; all call it."""
    code = max(session.comm.gather_all(session.stop.code))
    if code:
        raise shared(
            Interrupted(f"stopped by {REASONS[code]} before a row was computed; the same command starts again")
        )


def quiet_session(config: Config, comm: Comm, device: torch.device, group: "GroupMember | None" = None) -> Session:
    """Make the session of a command that runs a part of a job: nothing is written, stopped or watched by it.

    Args:
        config: the options.
        comm: all ranks.
        device: device of this rank.
        group: see `Session`.
    """
    timeline = Timeline(0.0)
    watchdog = Watchdog(comm, config.stall_timeout)  # its thread is not started
    return Session(
        config=config,
        everyone=comm,
        comm=group.leaders if group and group.leaders else comm,
        group=group,
        device=device,
        recorder=MemoryRecorder(config.max_bad),
        failure=FailureRecord(None, comm.world),
        stop=Stop(None),
        watchdog=watchdog,
        phases=PhaseTracker(comm.world, watchdog, timeline),
        timeline=timeline,
        stats=RankStats(comm.world.rank, comm.world.host, str(device), torch.get_num_threads()),
        began=job_start(),
        hosts={comm.world.host: comm.world.world_size},
    )


def _make_recorder(config: Config) -> Recorder:
    """Make the recorder of the predictions; used on rank 0 alone."""
    return MemoryRecorder(config.max_bad, config) if config.output is None else FileRecorder(config, config.output)


def join_group(config: Config, launch: Launch, comm: Comm) -> "GroupMember":
    """Join the model-parallel group of this rank; every rank calls it."""
    from runner.parallel.member import GroupMember  # slow to import: PyTorch's distributed tensors

    return GroupMember(config, launch, comm)
