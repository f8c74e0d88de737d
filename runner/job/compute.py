"""The seventh stage of a job: compute chunks with the model, and collect predictions in the output."""

import time

from runner.chunks.grid import Grid
from runner.chunks.schedule import make_schedule
from runner.collect.collector import Collector
from runner.collect.direct import close_direct
from runner.config.options import Config
from runner.core.text import duration, plural
from runner.data.rows import RowType
from runner.engine.baseline import Speed, measure_single_rank
from runner.engine.kept import KeptReader
from runner.engine.loop import Engine
from runner.engine.recovery import BatchRecovery
from runner.host.devices import keep_freed_memory
from runner.job.context import Computed, ProvenModel, Session, Work
from runner.job.dataset import open_column
from runner.job.finish import prepare_page
from runner.sources import Source
from runner.telemetry.log import LOGGER


def compute_chunks(session: Session, source: Source, model: ProvenModel, work: Work) -> Computed:
    """Compute this rank's chunks, and take part in collecting those of all; every rank that computes calls it.

    Raises:
        RunnerError: see `Engine.run` and `Collector`.
    """
    config = session.config
    comm = session.comm
    stats = session.stats
    engine = make_engine(session, source, model, work.grid)
    baseline = _measure_baseline(session, engine) if config.baseline else None
    counter = comm.counter() if config.schedule == "dynamic" else None
    draw = counter.next if counter else None
    chunks = make_schedule(work.grid, work.committed.chunks, draw, comm.world.rank, comm.world.world_size)
    keep_freed_memory(session.device)
    if comm.world.rank == 0:
        prepare_page()
    session.phases.begin("data_wait", "reading the first rows")
    write = work.sink.write if work.sink else session.recorder.write
    watchdog = session.watchdog
    timeline = session.timeline
    record = session.recorder.record
    stop = session.stop
    with Collector(comm, write, record, work.ranks_write, stop, watchdog, timeline) as collector:
        stats.startup_seconds = time.time() - session.began
        began = time.perf_counter()
        for commit, predictions in engine.run(chunks):
            collector.put(commit, predictions)
            LOGGER.debug("chunk %d: rows %d..%d, %s", commit.chunk, commit.start, commit.stop, duration(commit.seconds))
            stats.rows += commit.stop - commit.start - len(commit.bad)
            stats.chunks += 1
            stats.output_bytes += predictions.nbytes
        collector.close()
    if work.ranks_write:
        close_direct(comm, work.sink)
    if counter:
        counter.close()
    stats.loop_seconds = time.perf_counter() - began
    session.phases.end(f"computed {plural(stats.rows, 'row')} in {plural(stats.chunks, 'chunk')}")
    return Computed(collector.received_bytes, baseline)


def make_engine(session: Session, source: Source, model: ProvenModel, grid: Grid) -> Engine:
    """Make the loop of this rank over chunks of `grid`."""
    config = session.config
    return Engine(
        source=source,
        grid=grid,
        predictor=model.predictor,
        recovery=BatchRecovery(source, model.predictor, model.good_row, config.on_error == "quarantine"),
        row_type=model.row_type,
        kept_reader=_make_kept_reader(config, source),
        on_nonfinite=config.on_nonfinite,
        observer=session.observer,
        rank=session.stats.rank,
    )


def _make_kept_reader(config: Config, source: Source) -> KeptReader | None:
    if not config.keep or isinstance(source.row_type, RowType):
        return None
    types = {name: source.row_type[name] for name in config.keep}
    return KeptReader(types, lambda name: open_column(config, name))


def _measure_baseline(session: Session, engine: Engine) -> Speed:
    session.phases.begin("baseline", "computing alone", root_alone=True)
    return session.comm.on_root(lambda: measure_single_rank(engine))
