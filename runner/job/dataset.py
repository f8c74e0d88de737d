"""The second stage of a job: open the data set."""

from collections.abc import Sequence

from runner.config.options import Config
from runner.core.errors import UsageError
from runner.data.rows import RowType
from runner.job.context import Session
from runner.sources import Scanned, Source, open_source
from runner.sources.base import check_row_types
from runner.sources.window import WindowSource


def open_dataset(session: Session) -> Source:
    """Open the data set; every rank that computes calls it, and they share work such as a scan of a large file.

    Raises:
        InputError, UsageError: on every rank alike.
    """
    config = session.config
    comm = session.comm
    source = comm.on_each(lambda: _open(config, config.columns, config.keep))
    if isinstance(source, Scanned):
        scans = comm.gather_all(comm.on_each(lambda: source.scan(comm.world.rank, comm.world.world_size)))
        comm.on_each(lambda: source.use(scans))
    comm.on_each(lambda: _check_kept(config, source))
    return _window(config, source)


def open_column(config: Config, name: str) -> Source:
    """Open one column of the data set, on one rank alone.

    Raises:
        InputError, UsageError: it cannot be opened.
    """
    source = _open(config, (name,))
    if isinstance(source, Scanned):
        source.use([source.scan(0, 1)])
    return _window(config, source)


def _open(config: Config, columns: Sequence[str], keep: Sequence[str] = ()) -> Source:
    most_rows = None if config.limit is None else config.skip + config.limit
    source = open_source(config.data, columns, keep, most_rows)
    if not isinstance(source, Scanned):  # whose types may take a scan, and which checks its own files
        is_named = isinstance(config.data, str)
        check_row_types(source, f"--data {config.data}" if is_named else f"data, a {type(config.data).__name__},")
    return source


def _window(config: Config, source: Source) -> Source:
    return WindowSource(source, config.skip, config.limit) if config.skip or config.limit is not None else source


def _check_kept(config: Config, source: Source) -> None:
    if config.keep and isinstance(source.row_type, RowType):
        raise UsageError(f"--keep {', '.join(config.keep)}: no other column is left for the model")
