"""The second stage of a job: open the data, and reject early what can be rejected."""

from runner.engine.reader import open_data
from runner.job.context import Dataset, Session
from runner.records.fingerprint import check_same, fingerprint_of_options, shape_of


def open_dataset(session: Session) -> Dataset:
    """Open the data; every rank that computes calls it.

    Raises:
        InputError, OutputError, UsageError: on every rank alike.
    """
    config, comm = session.config, session.comm
    source = open_data(config, comm)
    stamp = comm.on_root(source.stamp)  # before a row is read
    root_sees = comm.bcast(shape_of(config, source))
    comm.on_each(lambda: check_same(config, source, root_sees))
    fingerprint = comm.on_root(lambda: fingerprint_of_options(config, source))
    comm.on_root(lambda: session.recorder.prepare(fingerprint))
    return Dataset(source, stamp, fingerprint)
