"""The third stage of a job: identify data and options, and reject early what an unfinished run contradicts."""

from runner.core.text import plural
from runner.job.context import Fingerprint, Session
from runner.job.dataset import digest_on_all
from runner.records.fingerprint import fingerprint_of_options
from runner.sources import Source


def take_fingerprint(session: Session, source: Source) -> Fingerprint:
    """Take the fingerprint, and compare it with existing files; every rank that computes calls it.

    Raises:
        InputError, OutputError, UsageError: on every rank alike.
    """
    config = session.config
    comm = session.comm
    stamp = comm.on_root(source.stamp)  # before a row is read
    digest = digest_on_all(session, source)
    values = comm.on_root(lambda: fingerprint_of_options(config, source, digest))
    comm.on_root(lambda: session.recorder.prepare(values))
    threads = plural(session.stats.threads, "CPU thread")
    session.phases.end(f"data: {plural(source.num_rows, 'row')}; on {session.device} with {threads}")
    return Fingerprint(stamp, values)
