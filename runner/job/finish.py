"""The last stage of a job: complete the output, and write the report and its page."""

import dataclasses
import threading
import time

from runner.config.options import Config
from runner.core.errors import RunnerError
from runner.core.imports import name_of
from runner.core.text import plural, rate
from runner.engine.canary import Canary
from runner.engine.reader import check_unmodified
from runner.engine.summary import Outcome, aggregate
from runner.host.stop import REASONS
from runner.job.context import Computed, Fingerprint, Session, Work
from runner.records.ledger import run_folder
from runner.records.recorder import Recorder
from runner.sources import Source
from runner.telemetry.report import Report

_PREPARING: list[threading.Thread] = []


def finish(
    session: Session, source: Source, fingerprint: Fingerprint, canary: Canary | None, work: Work, computed: Computed
) -> Report:
    """Complete the output, or leave it to the next job, and make the report; every rank that computes calls it.

    Raises:
        RunnerError: on every rank alike.
    """
    config = session.config
    comm = session.comm
    recorder = session.recorder
    stats = session.stats
    session.phases.begin("finish", "finishing the output", root_alone=True)
    if canary:
        changed = {rank * config.model_parallel: who for rank, who in canary.compare_again().items()}
        comm.on_root(lambda: _trust(recorder, changed))
    comm.on_root(lambda: check_unmodified(source, fingerprint.stamp, name_of(config.data)))
    computed_rows = sum(comm.gather_all(stats.rows))
    comm.on_root(lambda: _complete(recorder, source.num_rows - computed_rows))
    outcome = Outcome(
        num_rows=source.num_rows,
        num_chunks=work.grid.num_chunks - len(work.committed.chunks),
        collect_bytes=computed.collect_bytes,
        began=session.began,
        wall_seconds=time.time() - session.began,
        stopped_by=REASONS.get(session.stop.code, ""),
        canary=canary.says if canary else "",
        alone=computed.baseline,
    )
    if session.group:
        session.group.aggregate(stats)
    report = aggregate(config, session.everyone, recorder, stats, session.timeline, outcome)
    comm.on_root(lambda: draw_page(config))
    if session.group:
        session.group.end(None)
    session.phases.end(f"finished: {plural(stats.rows, 'row')}, {rate(stats.rows / stats.loop_seconds)}")
    return dataclasses.replace(report, predictions=recorder.predictions)


def serve(session: Session) -> Report:
    """Follow the first rank of this rank's model-parallel group until the job ends.

    Raises:
        RunnerError: the error with which that rank ended.
    """
    assert session.group is not None
    report = session.group.serve(session.stats, session.timeline, session.watchdog.main)
    assert report is not None  # a first rank without a report ends with an error
    return report


def prepare_page() -> None:
    """Import what a page needs in another thread, while the job computes: at its end nothing would hide the time."""

    def prepare() -> None:
        from runner.reports.pages import prepare

        prepare()

    thread = threading.Thread(target=prepare, name="pages", daemon=True)
    thread.start()
    _PREPARING.append(thread)


def draw_page(config: Config) -> None:
    """Draw the page of the run from its records, if it has any; on rank 0."""
    while _PREPARING:  # of two threads that import the same modules, one may see them half made
        _PREPARING.pop().join()
    if config.output is not None:
        from runner.reports.pages import write_page

        write_page(run_folder(config.output))


def _complete(recorder: Recorder, other_rows: int) -> None:
    """Complete the output, or leave it to the next job; on rank 0.

    Args:
        recorder: recorder of the output.
        other_rows: number of rows of the data set that this job has not computed.
    """
    if other_rows > recorder.resumed_rows + recorder.bad_rows:
        recorder.suspend()
    else:
        recorder.finish()


def _trust(recorder: Recorder, changed: dict[int, str]) -> None:
    """Discard the rows of ranks whose canary answer has changed since the start, and raise RunnerError; on rank 0."""
    if changed:
        rows = recorder.distrust(changed)
        raise RunnerError(
            f"the answer to the canary is no longer what it was at the start on {', '.join(changed.values())}: a "
            f"processor or GPU is faulty, or the model keeps a state. Withdrawn: {plural(rows, 'row')} computed there "
            "by this job; the same command computes them again"
        )
