"""The second stage of a job: open the data set, and see that all ranks have the same."""

import dataclasses
from collections.abc import Sequence

from runner.config.formats import cells_of
from runner.config.options import Config
from runner.core.errors import InputError, UsageError
from runner.core.text import plural
from runner.data.rows import RowType, type_key
from runner.host.devices import device_kind
from runner.host.launch import warn
from runner.job.context import Session
from runner.job.decompress import share_decompressed
from runner.sources import ReadOptions, Scanned, Source, open_source, without_column
from runner.sources.base import Noted, check_row_types
from runner.sources.window import WindowSource


def open_dataset(session: Session) -> Source:
    """Open the data set; every rank that computes calls it, and they share work such as a scan of a large file.

    Raises:
        InputError, UsageError: on every rank alike.
    """
    config = session.config
    comm = session.comm
    contents = share_decompressed(session)
    source = comm.on_each(lambda: _open(config, config.columns, config.keep))
    if isinstance(source, Scanned):
        scans = comm.gather_all(comm.on_each(lambda: source.scan(comm.world.rank, comm.world.world_size)))
        comm.on_each(lambda: source.use(scans))
    comm.on_each(lambda: _check_kept(config, source))
    for note in comm.on_root(lambda: list(source.notes) if isinstance(source, Noted) else []):
        warn(comm.world, note)
    del contents  # the source holds what it reads
    return _window(config, source)


def digest_on_all(session: Session, source: Source) -> str:
    """Return the digest of the data set, once all ranks are known to have it; every rank that computes calls it.

    Each rank reads its own samples, since hosts may have copies under one name, and processes may make data themselves.

    Raises:
        InputError: a rank has other data than rank 0, or another kind of device; on every rank alike.
    """
    comm = session.comm
    kind = device_kind(session.config)
    own = comm.on_each(lambda: (kind, source.num_rows, type_key(source.row_type), source.digest()))
    root = comm.bcast(own)
    comm.on_each(lambda: _check_same(session.config, own, root))
    return own[-1]


def _check_same(config: Config, own: tuple[str, int, str, str], root: tuple[str, int, str, str]) -> None:
    """Raise InputError, about the first difference, if a rank's device, rows, type or digest are not rank 0's."""
    if own[0] != root[0]:
        raise InputError(f"this rank computes on {own[0]}, and rank 0 on {root[0]}; all must compute on one kind")
    differences = (
        f"{plural(own[1], 'row')}, and {root[1]:,} on rank 0",
        f"rows of {own[2]}, and of {root[2]} on rank 0",
        "other contents than on rank 0, in as many rows of the same type",
    )
    for difference, here, there in zip(differences, own[1:], root[1:], strict=True):
        if here != there:
            name = config.data if isinstance(config.data, str) else "the data"
            raise InputError(
                f"{name} has {difference}. All ranks must read the same data: give all hosts the same copy, or use a "
                "file system that they share"
            )


def open_column(config: Config, name: str) -> Source:
    """Open one column of the data set, on one rank alone.

    Raises:
        InputError, UsageError: it cannot be opened.
    """
    source = _open(dataclasses.replace(config, data=without_column(config.data)), (name,))
    if isinstance(source, Scanned):
        source.use([source.scan(0, 1)])
    return _window(config, source)


def _open(config: Config, columns: Sequence[str], keep: Sequence[str] = ()) -> Source:
    most_rows = None if config.limit is None else config.skip + config.limit
    cells = cells_of(config.output, config.columns, config.keep)
    if config.messages is not None and columns == config.columns:
        columns = (config.messages,)
        cells += columns
    options = ReadOptions(
        [name for name in cells if name in (*columns, *keep)],
        config.null == "nan",
        config.types_by_column,
        config.data_args,
    )
    source = open_source(config.data, columns, keep, most_rows, options)
    if not isinstance(source, Scanned):  # whose types may take a scan, and which checks its own files
        is_named = isinstance(config.data, str)
        check_row_types(source, f"--data {config.data}" if is_named else f"data, a {type(config.data).__name__},")
    return source


def _window(config: Config, source: Source) -> Source:
    return WindowSource(source, config.skip, config.limit) if config.skip or config.limit is not None else source


def _check_kept(config: Config, source: Source) -> None:
    if config.keep and isinstance(source.row_type, RowType):
        raise UsageError(f"--keep {', '.join(config.keep)}: no other column is left for the model")
