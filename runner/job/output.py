"""The fourth stage of a job: open the output, and check the chunks that earlier jobs of the run have committed."""

from runner.chunks.grid import share
from runner.collect.direct import open_direct
from runner.comm.workers import describe_workers
from runner.core.text import plural
from runner.data.rows import type_key
from runner.engine.reader import check_inputs, make_grid
from runner.host.command_line import describe_job
from runner.job.context import Dataset, LoadedModel, Session, Work
from runner.records.recorder import Committed


def open_output(session: Session, dataset: Dataset, model: LoadedModel) -> Work:
    """Open the output, and find the chunks that are left to compute; every rank that computes calls it.

    Raises:
        InputError, OutputError: on every rank alike.
    """
    config, comm, group = session.config, session.comm, session.group
    session.phases.begin("output", "opening the output and checking what is there", root_alone=True)
    grid = make_grid(config, dataset.source, model.row_type, model.predictor.ignored)
    decided = {"chunk_size": grid.chunk_size, "weights": model.digest, "row_type": type_key(model.row_type)}
    where = group.summary if group else describe_workers(comm, session.stats.threads)

    def open_records() -> Committed:
        this_job = describe_job(session.everyone.world, config.model_parallel, dataset.stamp, session.began)
        return session.recorder.open({**dataset.fingerprint, **decided}, grid, model.row_type, this_job, where)

    committed = comm.on_root(open_records)
    session.failure.begin()
    session.timeline.align(comm.bcast(session.timeline.now()))
    if group:
        group.align(session.timeline.now())
    mine = share(len(committed.to_check), comm.world.rank, comm.world.world_size)
    to_check = committed.to_check[mine.start : mine.stop]
    session.watchdog.main.begin("comparing the data with what earlier jobs have read")
    comm.on_each(lambda: check_inputs(dataset.source, grid, to_check, model.predictor.batching))
    ranks_write = not config.collect_mode.moves_rows
    sink = open_direct(comm, config.output or "", grid, model.row_type) if ranks_write else None
    session.phases.end(f"output: {len(committed.chunks):,} of {plural(grid.num_chunks, 'chunk')} committed already")
    return Work(grid, committed, ranks_write, sink)
