"""The sixth stage of a job: open the output, and check the chunks that earlier jobs of the run have committed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runner.chunks.grid import share
from runner.collect.direct import open_direct
from runner.comm.workers import describe_workers
from runner.core.text import plural
from runner.data.rows import type_key
from runner.engine.canary import Canary
from runner.engine.reader import check_inputs, make_grid
from runner.host.command_line import describe_job
from runner.host.launch import warn
from runner.host.versions import computing_versions, describe_environment
from runner.job.context import Fingerprint, ProvenModel, Session, Work
from runner.job.names import check_names
from runner.job.software import compare_software
from runner.records.fingerprint import origin_of
from runner.records.recorder import Committed
from runner.records.user_code import digest_code
from runner.sources import Source


def open_output(
    session: Session, source: Source, fingerprint: Fingerprint, model: ProvenModel, canary: Canary | None
) -> Work:
    """Open the output, and find the chunks that are left to compute; every rank that computes calls it.

    Raises:
        InputError, OutputError: on every rank alike.
    """
    config = session.config
    comm = session.comm
    group = session.group
    session.phases.begin("output", "opening the output and checking what is there", root_alone=True)
    check_names(session, model.row_type)
    grid = make_grid(config, source, model.row_type, model.predictor.ignored)
    decided = {"chunk_size": grid.chunk_size, "weights": model.digest, "row_type": type_key(model.row_type)}
    mixed = compare_software(comm)
    where = group.summary if group else describe_workers(comm, session.stats.threads)

    def open_records() -> Committed:
        this_job = describe_job(session.everyone.world, config.model_parallel, fingerprint.stamp, session.began)
        this_job |= {"environment": describe_environment(session.everyone.library), "hosts": session.hosts}
        this_job |= {"versions": computing_versions(), "answers": canary.sample() if canary else None}
        this_job |= {"environments": mixed} if mixed else {}
        values = {**fingerprint.values, **decided, "code": digest_code(config)}
        committed = session.recorder.open(values, grid, model.row_type, this_job, where)
        if committed.chunks:
            for words in _compare(committed.jobs, this_job, canary):
                warn(comm.world, words)
        return committed

    committed = comm.on_root(open_records)
    session.failure.begin()
    session.timeline.align(comm.bcast(session.timeline.now()))
    if group:
        group.align(session.timeline.now())
    mine = share(len(committed.to_check), comm.world.rank, comm.world.world_size)
    to_check = committed.to_check[mine.start : mine.stop]
    session.watchdog.main.begin("comparing the data with what earlier jobs have read")
    comm.on_each(lambda: check_inputs(source, grid, to_check))
    ranks_write = not config.collect_mode.moves_rows
    sink = None
    if ranks_write:
        origin = comm.on_root(lambda: origin_of({**fingerprint.values, **decided}))
        sink = open_direct(comm, config.output or "", grid, model.row_type, origin)
    session.phases.end(f"output: {len(committed.chunks):,} of {plural(grid.num_chunks, 'chunk')} committed already")
    return Work(grid, committed, ranks_write, sink)


def _compare(former_jobs: Sequence[Mapping[str, Any]], job: Mapping[str, Any], canary: Canary | None) -> Iterator[str]:
    """Yield warnings about what this job does otherwise than the earlier ones of the run.

    Raises:
        InputError: it computes something else.
    """
    answers = [former["answers"] for former in former_jobs if former.get("answers")]
    if canary and answers:
        yield canary.compare_with(answers[-1])
    for name, version in job["versions"].items():
        others = {former.get("versions", {}).get(name, version) for former in former_jobs} - {version}
        if others:
            yield f"earlier rows were computed with {name} {', '.join(sorted(others))}, the rest will be with {version}"
