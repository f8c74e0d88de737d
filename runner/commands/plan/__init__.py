"""`hvd-runner plan`: the resources and the risks of a job, before an allocation is spent on it.

It needs neither ranks nor MPI, and so runs on a login node. It runs the runner's own code up to a job's first chunks.
"""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import psutil
import torch

from runner.comm.single import SingleComm
from runner.commands.plan.estimate import MPI_BYTES, Pace, Work, find_work, times
from runner.commands.plan.fitting import Fitting
from runner.commands.plan.former import PreviousReport
from runner.commands.plan.layout import Layout, Memory, memory_of
from runner.commands.plan.risks import PlannedJob
from runner.commands.plan.room import find_room, free_here, wants_sizes
from runner.commands.plan.sizes import Sizes
from runner.commands.plan.text import render_plan
from runner.commands.plan.trial import Trial, lacks_gpu, try_out
from runner.commands.plan.unloaded import render_unloaded
from runner.config.checks import check_positive, parse_memory
from runner.config.options import Config
from runner.core.errors import BatchTooLarge, RunnerError, UsageError
from runner.core.limits import total_memory
from runner.core.urls import local_name
from runner.data.rows import RowType, type_key
from runner.host.cpus import cpu_share, fair_threads, requested_threads, usable_cpus
from runner.job.dataset import open_dataset
from runner.job.session import quiet_session
from runner.records.file_recorder import FileRecorder
from runner.records.fingerprint import fingerprint_of_options
from runner.records.ledger import Ledger, run_folder
from runner.sinks import check_space, find_writer
from runner.sources import Source


def plan(config: Config, given: dict[str, Any]) -> str:
    """Return the plan of a job, in words.

    Args:
        config: configuration of the job.
        given: ranks, ranks_per_node, cpus_per_rank, memory, memory_per_rank, report; all of them optional.

    Raises:
        RunnerError: the job would fail in this way before its first chunk, or an option is wrong.
    """
    layout = _layout(config, given)
    previous = PreviousReport(given["report"]) if "report" in given else None
    output = _local_name(str(config.output))
    source = open_dataset(quiet_session(config, SingleComm(), torch.device("cpu")))
    known = _look_at_output(config, source, output)
    sizes = _sizes(config) if wants_sizes(config, layout, given) else None
    process = psutil.Process().memory_info().rss
    free = free_here(config)
    cpus = len(usable_cpus())

    def fit(sizes: Sizes, trial: Trial | None) -> Fitting:
        return Fitting(config, layout, sizes, find_room(config, layout, given, source, sizes, process, trial))

    if isinstance(sizes, Sizes) and sizes.total > free and config.offload is None:
        former_pace = previous.pace if previous else None
        return render_unloaded(config, source, fit(sizes, None), free, former_pace, given.get("report"), cpus)
    measure = previous is None and not lacks_gpu(config)
    config, trial, warning = _try_out(config, source, layout.threads, measure)
    if warning and known:
        known["batch_size"] = config.batch_size
    fitting = fit(sizes, trial) if isinstance(sizes, Sizes) else None
    is_spooled = find_writer(str(config.output), trial.row_type) is not None
    committed = _committed(config, output, known, trial)
    check_space(f"{output}.partial", trial.output_bytes if isinstance(trial.row_type, RowType) else 0)

    work = find_work(trial.grid, committed, trial.output_bytes, config.collect, config.schedule, str(config.output))
    pace = previous.pace if previous else _pace(trial)
    situation = PlannedJob(
        config=config,
        layout=layout,
        grid=trial.grid,
        work=work,
        memory=_memory(config, layout, work, trial, previous, fitting, given.get("report")),
        times=times(work, pace, layout.replicas, layout.model_parallel) if pace else None,
        free_bytes=shutil.disk_usage(Path(output).parent).free,
        is_spooled=is_spooled,
        cpus_here=cpus,
    )
    text = render_plan(situation, source, trial, pace, len(committed), given.get("report"), fitting)
    text += warning
    if isinstance(sizes, str):
        text += f"\n\n! the number of ranks over which the model can be split is not known: {sizes}"
    return text


def _try_out(config: Config, source: Source, threads: int, measure: bool) -> tuple[Config, Trial, str]:
    """Return a job's configuration and trial; with smaller batches and a warning where the model requires them."""
    try:
        return config, try_out(_whole(config), source, threads, measure), ""
    except BatchTooLarge as error:
        config = dataclasses.replace(config, batch_size=error.size)
        warning = f"\n\n! {error.message}: this is the plan for --batch-size {error.size}, which predict needs"
        return config, try_out(_whole(config), source, threads, measure), warning


def _layout(config: Config, given: dict[str, Any]) -> Layout:
    for name in ("ranks", "ranks_per_node", "cpus_per_rank"):
        if name in given:
            check_positive(f"--{name.replace('_', '-')}", given[name])
    own = cpu_share("")
    cpus = own.cpus
    size = config.model_parallel
    ranks = given.get("ranks", size)
    if ranks % size:
        raise UsageError(f"--model-parallel {size} does not divide --ranks {ranks}; use a multiple of {size}")
    together = min(ranks, given.get("ranks_per_node", len(cpus)))
    fair = fair_threads(own, [own] * together)
    threads = config.threads or given.get("cpus_per_rank") or requested_threads() or fair
    ranks_per_node = given.get("ranks_per_node", max(1, len(cpus) // threads))
    memory = parse_memory(given["memory"]) if "memory" in given else total_memory()
    return Layout(ranks, ranks_per_node, threads, memory, size)


def _sizes(config: Config) -> "Sizes | str":
    """Return the sizes of the model; or the reason they cannot be found, where the job can do without them."""
    from runner.commands.plan.sizing import size_up  # PyTorch's distributed tensors take their time to import

    try:
        return size_up(config)
    except RunnerError as error:
        if config.model_parallel > 1:
            raise
        return error.message


def _whole(config: Config) -> Config:
    """Return the configuration with the complete model on one rank."""
    return dataclasses.replace(
        config, model_parallel=1, parallel_plan=None, pipeline_stages=1, split_points=(), micro_batches=None
    )


def _memory(
    config: Config,
    layout: Layout,
    work: Work,
    trial: Trial,
    previous: PreviousReport | None,
    fitting: Fitting | None,
    report: str | None,
) -> Memory:
    """Return the memory, measured where a replica had as many ranks as in the job, else computed."""
    is_measured, has_mpi = layout.model_parallel == 1, False
    rank_0 = trial.peak_bytes
    other = trial.held_bytes
    how = "measured here"
    if previous and previous.model_parallel == layout.model_parallel:
        (rank_0, other) = previous.memory
        how = f"of {report}"
        is_measured = True
        has_mpi = previous.world_size > 1
    if not is_measured:
        assert fitting is not None
        computed = fitting.memory()
        rank_0 = computed.rank_0 - MPI_BYTES
        other = computed.other - MPI_BYTES
        how = computed.how
    shared = trial.model_bytes if config.share_weights else 0
    memory = memory_of(config, layout, work, trial.grid, rank_0, other, shared, has_mpi, how)
    return memory if is_measured else dataclasses.replace(memory, computed=0)


def _local_name(output: str) -> str:
    """Return the local path at which rank 0 writes the output."""
    return str(Path(local_name(output)))


def _look_at_output(config: Config, source: Source, output: str) -> dict[str, Any]:
    """Return the known part of the fingerprint, after the job's own check of existing files.

    The data are examined as closely only where there is a run to compare them with.
    """
    known = fingerprint_of_options(config, source, source.digest()) if Ledger(run_folder(output)).fingerprint else {}
    if config.device == "auto" and not torch.cuda.is_available():
        known.pop("device", None)  # the job's nodes may have what this one lacks
    with FileRecorder(config, str(config.output)) as recorder:
        recorder.look(known)
    return known


def _committed(config: Config, output: str, known: dict[str, Any], trial: Trial) -> frozenset[int]:
    """Return the chunks of an unfinished run that the job would resume."""
    if config.fresh or not Path(f"{output}.partial").exists():
        return frozenset()
    ledger = Ledger(run_folder(output))
    expected = known | {"chunk_size": trial.grid.chunk_size, "row_type": type_key(trial.row_type)}
    if config.model_parallel == 1:  # weights that are split have another digest than those of the whole model
        expected["weights"] = trial.weights
    if not ledger.is_empty:  # else the job would start over
        ledger.check(expected)
    return frozenset(ledger.commits)


def _pace(trial: Trial) -> Pace | None:
    if trial.rows_per_second is None:
        return None
    return Pace(trial.rows_per_second, trial.startup_seconds, trial.model_bytes, is_of_a_job=False)
