"""The story of a job, and the only place where the parts are joined."""

import dataclasses
import sys
import time
from typing import Any

from runner.alone import measure_alone
from runner.assembly import assemble
from runner.batch import Inference
from runner.canary import EQUAL, Canary
from runner.collect import Collector
from runner.comm import Comm, connect
from runner.config import Config, make_config
from runner.direct import close_direct, open_direct
from runner.errors import RunnerError, as_runner_error
from runner.failure import LastWord
from runner.file_recorder import FileRecorder
from runner.fingerprint import check_same, fingerprint_of_options, shape_of
from runner.grid import share
from runner.imports import name_of
from runner.infer import infer
from runner.inputs import check_inputs, check_unmodified, make_grid, open_data
from runner.quarantine import Rescue
from runner.recorder import MemoryRecorder, Recorder
from runner.report import Report
from runner.reporting import Outcome, sum_up
from runner.resources import (
    deadline,
    device_kind,
    gpu_name,
    keep_freed_memory,
    local_device,
    set_threads,
    shared_gpus,
    workers_in_words,
)
from runner.rows import RowTypes, in_words, row_bytes_of
from runner.schedule import make_schedule
from runner.sources import Source
from runner.stats import RankStats
from runner.stop import REASONS, Stop
from runner.timeline import Timeline
from runner.watch import Watch
from runner.world import World, detect_launch, process_start

_PROBES = 1000  # rows that are tried for one that works, where bad rows are set aside


def predict(**options: Any) -> Report:
    """Run one prediction job with the ranks this process was launched with; every rank calls it alike.

    Args:
        options: the fields of `runner.config.Config`. `model` may be a function that returns an `nn.Module`, `data`
            an array, `output` None: then rank 0 finds the predictions in the report.

    Returns:
        The report, on every rank. Where its `status` is "stopped", a signal or the time limit has ended the job before
        the output was whole; the same call goes on.

    Raises:
        RunnerError: on every rank alike. An error on one rank alone ends the job, with exit code and message.
    """
    return run(make_config(options))


def run(config: Config) -> Report:
    """Run one prediction job; see `predict`."""
    timeline = Timeline(time.time() - process_start(), config.trace)
    timeline.turn("connect")
    comm = connect(detect_launch(), config.comm, config.collect, device_kind(config), config.stall_timeout)
    last_word = LastWord(config.output, comm.world)
    try:
        with (
            _make_recorder(config) as recorder,
            Stop(deadline(config)) as stop,
            Watch(comm, config.stall_timeout, last_word.note) as watch,
        ):
            report = _run(config, comm, recorder, stop, watch, last_word, timeline)
    except BaseException as exception:
        error = as_runner_error(exception)
        last_word.note(error)
        if error.shared:
            comm.close()
        else:
            comm.fail(error)
        raise error from exception
    comm.close()
    return report


def _run(
    config: Config,
    comm: Comm,
    recorder: Recorder,
    stop: Stop,
    watch: Watch,
    last_word: LastWord,
    timeline: Timeline,
) -> Report:
    world = comm.world
    timeline.turn("data")
    stats = RankStats(rank=world.rank, host=world.host, device="", threads=set_threads(config, comm))

    # what can be refused early is refused here, on all ranks alike
    source = open_data(config, comm)
    stamp = comm.on_root(source.stamp)  # before a row is read
    root_sees = comm.bcast(shape_of(config, source))
    comm.on_each(lambda: check_same(config, source, root_sees))
    known = comm.on_root(lambda: fingerprint_of_options(config, source))
    comm.on_root(lambda: recorder.prepare(known))
    device = comm.on_each(lambda: local_device(config, comm))
    stats.device = str(device)
    _warn(world, shared_gpus(comm.gather_all((world.who, gpu_name(device)))))

    watch.main.begin("building the model")
    timeline.turn("model")
    inference, weights_digest = assemble(config, comm, source, device)
    timeline.turn("checks")
    sets_aside = config.on_error == "quarantine"
    row_type, good_row = comm.on_root(lambda: inference.probe(source, _PROBES if sets_aside else 1))
    rescue = Rescue(source, inference, good_row, sets_aside)
    watch.main.begin("computing the canary")
    canary, canary_says = _start_canary(config, comm, inference, source, good_row, row_type)

    _let_rank_0(watch, world, "opening the output and checking what is there")
    timeline.turn("output")
    grid = make_grid(config, source, row_type, inference.ignored)
    fingerprint = known | {"chunk_size": grid.chunk_size, "weights": weights_digest, "row_type": in_words(row_type)}
    where = workers_in_words(comm, stats.threads)
    committed = comm.on_root(lambda: recorder.open(fingerprint, grid, row_type, _this_job(comm, stamp), where))
    last_word.begin()
    timeline.align(comm.bcast(timeline.now()))
    mine = share(len(committed.to_check), world.rank, world.world_size)
    to_check = committed.to_check[mine.start : mine.stop]
    watch.main.begin("comparing the data with what earlier jobs have read")
    comm.on_each(lambda: check_inputs(source, grid, to_check, inference.ignored))

    alone = None
    if config.baseline:
        timeline.turn("baseline")
        _let_rank_0(watch, world, "computing alone")
        alone = comm.on_root(
            lambda: measure_alone(grid, source, inference, rescue, row_type, config.keep, config.on_nonfinite)
        )
        timeline.turn("output")
    is_direct = config.collect in ("direct", "shards")
    own_sink = open_direct(comm, config.output or "", grid, row_type) if is_direct else None
    write = own_sink.write if own_sink else recorder.write
    counter = comm.counter() if config.schedule == "dynamic" else None
    chunks = make_schedule(grid, committed.chunks, counter, world.rank, world.world_size)
    keep_freed_memory(device)
    with Collector(comm, write, recorder.record, is_direct, stop, watch, timeline) as collector:
        stats.startup_seconds = time.time() - process_start()
        loop_began = time.perf_counter()
        for commit, predictions in infer(
            chunks,
            grid,
            source,
            inference,
            rescue,
            row_type,
            config.keep,
            stop,
            watch.main,
            world.rank,
            timeline,
            config.on_nonfinite,
        ):
            collector.put(commit, predictions)
            stats.rows += commit.stop - commit.start - len(commit.bad)
            stats.chunks += 1
            stats.output_bytes += predictions.nbytes
        collector.close()
    if is_direct:
        close_direct(comm, own_sink)
    if counter:
        counter.close()
    stats.loop_seconds = time.perf_counter() - loop_began

    _let_rank_0(watch, world, "finishing the output")
    timeline.turn("finish")
    if canary and config.canary:
        changed = canary.compare_again()
        comm.on_root(lambda: _trust(recorder, changed))
    comm.on_root(lambda: check_unmodified(source, stamp, name_of(config.data)))
    computed_rows = sum(comm.gather_all(stats.rows))
    comm.on_root(lambda: _finish(recorder, source.num_rows - computed_rows))
    wall_seconds = time.time() - process_start()
    outcome = Outcome(
        num_rows=source.num_rows,
        num_chunks=grid.num_chunks - len(committed.chunks),
        collect_bytes=collector.received_bytes,
        wall_seconds=wall_seconds,
        stopped_by=REASONS.get(stop.code, ""),
        canary=canary_says,
        alone=alone,
    )
    report = sum_up(config, comm, recorder, stats, timeline, outcome)
    return dataclasses.replace(report, predictions=recorder.predictions)


def _start_canary(
    config: Config, comm: Comm, inference: Inference, source: Source, row: int | None, row_type: RowTypes
) -> tuple[Canary | None, str]:
    """The canary and what it says at the start; None where there is nothing to compare, or no row to do it with."""
    if row is None or (comm.world.world_size == 1 and not config.canary):
        return None, ""
    canary = Canary(comm, inference, source, row, config.batch_size, row_bytes_of(row_type))
    says = canary.compare()
    _warn(comm.world, says if says != EQUAL else "")
    return canary, says


def _warn(world: World, what: str) -> None:
    """Rank 0 says it; nothing where it is empty."""
    if world.rank == 0 and what:
        print(f"runner: warning: {what}", file=sys.stderr, flush=True)


def _let_rank_0(watch: Watch, world: World, what: str) -> None:
    """Rank 0 does something, and the others wait for it."""
    if world.rank == 0:
        watch.main.begin(what)
    else:
        watch.main.wait()


def _make_recorder(config: Config) -> Recorder:
    """What keeps the predictions; used on rank 0 alone."""
    return MemoryRecorder(config.max_bad) if config.output is None else FileRecorder(config, config.output)


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


def _this_job(comm: Comm, stamp: str) -> dict[str, Any]:
    """What the ledger keeps of a job."""
    epoch, world = process_start(), comm.world
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch))
    return {
        "started": started,
        "epoch": epoch,
        "world_size": world.world_size,
        "launcher": world.launcher,
        "data": stamp,
    }
