"""The story of a job, and the only place where the parts are joined."""

import dataclasses
import importlib
import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from runner.chunks.grid import share
from runner.chunks.schedule import make_schedule
from runner.collect.collector import Collector
from runner.collect.direct import close_direct, open_direct
from runner.comm import Comm, connect
from runner.comm.watchdog import Watch
from runner.comm.workers import describe_workers, share_threads
from runner.config.options import Config, make_config
from runner.core.errors import RunnerError, as_runner_error
from runner.core.imports import name_of
from runner.data.rows import in_words
from runner.engine.baseline import measure_alone
from runner.engine.canary import start_canary
from runner.engine.loop import infer
from runner.engine.probing import probe
from runner.engine.reader import check_inputs, check_unmodified, make_grid, open_data
from runner.engine.recovery import Rescue
from runner.engine.summary import Outcome, sum_up
from runner.host.command_line import describe_job
from runner.host.devices import (
    deadline,
    device_kind,
    gpu_name,
    keep_freed_memory,
    local_device,
    shared_gpus,
)
from runner.host.launch import Launch, detect_launch, process_start, set_log_defaults, warn
from runner.host.stop import REASONS, Stop
from runner.job.model import assemble
from runner.records.failure import LastWord
from runner.records.file_recorder import FileRecorder
from runner.records.fingerprint import check_same, fingerprint_of_options, shape_of
from runner.records.ledger import run_folder
from runner.records.recorder import Committed, MemoryRecorder, Recorder
from runner.telemetry.log import LOGGER, Stages, make_timeline, sent_in_words, spoken
from runner.telemetry.report import Report
from runner.telemetry.stats import RankStats
from runner.telemetry.timeline import Timeline

if TYPE_CHECKING:
    from runner.parallel.member import Part

_PROBES = 1000  # rows that are tried for one that works, where bad rows are set aside


def predict(**options: Any) -> Report:
    """Run one prediction job with the ranks this process was launched with; every rank calls it alike.

    Args:
        options: the fields of `runner.config.options.Config`. `model` may be a function that returns an `nn.Module`,
            `data` an array, `output` None: then rank 0 finds the predictions in the report.

    Returns:
        The report, on every rank. Where its `status` is "stopped", a signal or the time limit has ended the job before
        the output was whole; the same call goes on.

    Raises:
        RunnerError: on every rank alike. An error on one rank alone ends the job, with exit code and message.
    """
    return run(make_config(options))


def run(config: Config) -> Report:
    """Run one prediction job; see `predict`."""
    timeline = make_timeline(time.time() - process_start(), config.trace, config.verbose)
    timeline.turn("connect")
    set_log_defaults(config.verbose)
    launch, is_split = detect_launch(), config.model_parallel > 1
    backend = "mpi" if is_split else config.comm
    if config.trace:  # what few need is not to cost all others its import
        from runner.reports.trace import horovods_timeline, write_trace
    with horovods_timeline(config) if config.trace else nullcontext() as horovods:
        comm = connect(launch, backend, config.collect, device_kind(config), config.stall_timeout)
    last_word, part = LastWord(config.output, comm.world), None
    try:
        with (
            spoken(comm.world, config.verbose),
            _make_recorder(config) as recorder,
            Stop(deadline(config)) as stop,
            Watch(comm, config.stall_timeout, last_word.note) as watch,
        ):
            part = _join_group(config, launch, comm) if is_split else None
            report = _run(config, comm, recorder, stop, watch, last_word, timeline, part)
            if config.trace:
                write_trace(config, comm, timeline, horovods)
    except BaseException as exception:
        error = as_runner_error(exception)
        if last_word.note(error) and comm.world.rank == 0:
            _write_page(config)
        if error.shared:
            if part and part.leaders:
                part.end(error)
            comm.close()
        else:
            comm.fail(error)
        raise error from exception
    comm.close()
    return report


def _join_group(config: Config, launch: Launch, comm: Comm) -> "Part":
    from runner.parallel.member import Part  # PyTorch's distributed tensors take their time to import

    return Part(config, launch, comm)


def _run(
    config: Config,
    comm: Comm,
    recorder: Recorder,
    stop: Stop,
    watch: Watch,
    last_word: LastWord,
    timeline: Timeline,
    part: "Part | None",
) -> Report:
    stages = Stages(comm.world, watch, timeline)
    stages.end(f"connected: launcher {comm.world.launcher}, {comm.library or 'no MPI'}")
    stages.begin("data", "opening the data")
    everyone, threads = comm, part.threads if part else share_threads(config, comm)
    stats = RankStats(rank=comm.world.rank, host=comm.world.host, device="", threads=threads)
    if part:
        stats.device = str(part.device)
        if part.leaders is None:
            served = part.serve(stats, timeline, watch.main)
            assert served is not None  # a leader that has no report ends with an error
            return served
        comm = part.leaders
    world = comm.world

    # what can be refused early is refused here, on all ranks alike
    source = open_data(config, comm)
    stamp = comm.on_root(source.stamp)  # before a row is read
    root_sees = comm.bcast(shape_of(config, source))
    comm.on_each(lambda: check_same(config, source, root_sees))
    known = comm.on_root(lambda: fingerprint_of_options(config, source))
    comm.on_root(lambda: recorder.prepare(known))
    device = part.device if part else comm.on_each(lambda: local_device(config, comm.world.local_rank))
    stats.device = str(device)
    warn(world, shared_gpus(comm.gather_all((world.who, gpu_name(device)))))
    stages.end(f"data: {source.num_rows:,} rows; on {device} with {stats.threads} CPU threads")

    stages.begin("model", "building the model")
    inference, weights_digest = assemble(config, comm, source, device, part.build if part else None)
    stages.end(f"model{sent_in_words(comm)}")
    stages.begin("checks", "computing the first row and the canary")
    sets_aside = config.on_error == "quarantine"
    row_type, good_row = probe(comm, inference, source, _PROBES if sets_aside else 1)
    rescue = Rescue(source, inference, good_row, sets_aside)
    canary, canary_says = start_canary(config, comm, inference, source, good_row, row_type)
    stages.end(f"canary: {canary_says or 'nothing to compare'}; the model is called with {inference.called_with}")

    stages.begin("output", "opening the output and checking what is there", root_alone=True)
    grid = make_grid(config, source, row_type, inference.ignored)
    fingerprint = known | {"chunk_size": grid.chunk_size, "weights": weights_digest, "row_type": in_words(row_type)}
    where = part.in_words if part else describe_workers(comm, stats.threads)

    def open_output() -> Committed:
        this_job = describe_job(everyone.world, config.model_parallel, stamp)
        return recorder.open(fingerprint, grid, row_type, this_job, where)

    committed = comm.on_root(open_output)
    last_word.begin()
    timeline.align(comm.bcast(timeline.now()))
    if part:
        part.align(timeline.now())
    mine = share(len(committed.to_check), world.rank, world.world_size)
    to_check = committed.to_check[mine.start : mine.stop]
    watch.main.begin("comparing the data with what earlier jobs have read")
    comm.on_each(lambda: check_inputs(source, grid, to_check, inference.batching))

    alone, keep, nonfinite = None, config.keep, config.on_nonfinite
    if config.baseline:
        stages.begin("baseline", "computing alone", root_alone=True)
        alone = comm.on_root(lambda: measure_alone(grid, source, inference, rescue, row_type, keep, nonfinite))
        stages.begin("output", "opening the output", root_alone=True)
    is_direct = config.collect in ("direct", "shards")
    own_sink = open_direct(comm, config.output or "", grid, row_type) if is_direct else None
    write = own_sink.write if own_sink else recorder.write
    counter = comm.counter() if config.schedule == "dynamic" else None
    chunks = make_schedule(grid, committed.chunks, counter.next if counter else None, world.rank, world.world_size)
    keep_freed_memory(device)
    if world.rank == 0:  # what is needed at the end, when nothing hides the time
        threading.Thread(target=importlib.import_module, args=("runner.reports.pages",), daemon=True).start()
    stages.end(f"output: {len(committed.chunks):,} of {grid.num_chunks:,} chunks are there already")
    stages.begin("wait_rows", "reading the first rows")
    computed = infer(
        chunks, grid, source, inference, rescue, row_type, keep, stop, watch.main, stats.rank, timeline, nonfinite
    )
    with Collector(comm, write, recorder.record, is_direct, stop, watch, timeline) as collector:
        stats.startup_seconds = time.time() - process_start()
        loop_began = time.perf_counter()
        for commit, predictions in computed:
            collector.put(commit, predictions)
            LOGGER.debug("chunk %d: rows %d..%d, %.3f s", commit.chunk, commit.start, commit.stop, commit.seconds)
            stats.rows += commit.stop - commit.start - len(commit.bad)
            stats.chunks += 1
            stats.output_bytes += predictions.nbytes
        collector.close()
    if is_direct:
        close_direct(comm, own_sink)
    if counter:
        counter.close()
    stats.loop_seconds = time.perf_counter() - loop_began
    stages.end(f"computed {stats.rows:,} rows in {stats.chunks:,} chunks")

    stages.begin("finish", "finishing the output", root_alone=True)
    if canary and config.canary:
        changed = {rank * config.model_parallel: who for rank, who in canary.compare_again().items()}
        comm.on_root(lambda: _trust(recorder, changed))
    comm.on_root(lambda: check_unmodified(source, stamp, name_of(config.data)))
    computed_rows = sum(comm.gather_all(stats.rows))
    comm.on_root(lambda: _finish(recorder, source.num_rows - computed_rows))
    outcome = Outcome(
        num_rows=source.num_rows,
        num_chunks=grid.num_chunks - len(committed.chunks),
        collect_bytes=collector.received_bytes,
        wall_seconds=time.time() - process_start(),
        stopped_by=REASONS.get(stop.code, ""),
        canary=canary_says,
        alone=alone,
    )
    if part:
        part.sum_up(stats)
    report = sum_up(config, everyone, recorder, stats, timeline, outcome)
    if config.output is not None:
        comm.on_root(lambda: _write_page(config))
    if part:
        part.end(None)
    stages.end(f"finished: {stats.rows:,} rows, {stats.rows / stats.loop_seconds:,.0f} rows/s")
    return dataclasses.replace(report, predictions=recorder.predictions)


def _write_page(config: Config) -> None:
    """Rank 0: draw the page of the run, from its records."""
    from runner.reports.pages import write_page

    write_page(run_folder(str(config.output)))


def _make_recorder(config: Config) -> Recorder:
    """What keeps the predictions; used on rank 0 alone."""
    return MemoryRecorder(config.max_bad, config) if config.output is None else FileRecorder(config, config.output)


def _finish(recorder: Recorder, other_rows: int) -> None:
    """Rank 0: make the output whole, or leave it to the next job.

    Args:
        recorder: of the output.
        other_rows: those of the data set that this job has not computed.
    """
    if other_rows > recorder.resumed_rows + recorder.bad_rows:
        recorder.suspend()
    else:
        recorder.finish()


def _trust(recorder: Recorder, changed: dict[int, str]) -> None:
    """Rank 0, at the end: take back what ranks have computed that no longer compute what they did at the start."""
    if changed:
        rows = recorder.distrust(changed)
        raise RunnerError(
            f"the answer to the canary is no longer what it was at the start on {', '.join(changed.values())}: a "
            f"processor or GPU is at fault, or the model keeps a state. The {rows:,} rows computed there by this job "
            "are taken back; the same command computes them again"
        )
