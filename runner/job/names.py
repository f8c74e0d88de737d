"""Check of the names of an output's files, before a row is computed."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import xxhash

from runner.chunks.grid import share
from runner.core.errors import InputError
from runner.data.columns import types_by_name
from runner.data.rows import Ragged, RowTypes, texts_of
from runner.job.context import Session
from runner.job.dataset import open_column
from runner.sinks import find_writer
from runner.sinks.names import places_of, refuse_name
from runner.sources import Source, is_dataset

_BLOCK = 65_536  # rows that are read together


def check_names(session: Session, row_type: RowTypes) -> None:
    """Check that each row's file gets a possible name of its own; every rank that computes calls it.

    The names of a PyTorch data set are left to the writer, since it gives them only together with all else.

    Raises:
        InputError: a name is impossible, or not of one row alone; on every rank alike.
    """
    config, comm = session.config, session.comm
    writer: Any = comm.on_each(lambda: find_writer(config.output, row_type) if config.output else None)
    if not hasattr(writer, "name_column") or is_dataset(config.data):
        return
    column, suffix = writer.name_column(types_by_name(row_type)), writer.suffix
    if column not in config.keep:
        return
    source = comm.on_each(lambda: open_column(config, column))
    own = comm.on_each(lambda: _digests(source, comm.world.rank, comm.world.world_size, column, suffix))
    files, folders = (np.concatenate(parts) for parts in zip(*comm.gather_all(own), strict=True))

    def check() -> None:
        order = np.argsort(files, kind="stable")
        twice = order[1:][files[order[1:]] == files[order[:-1]]]
        taken = twice if len(twice) else np.flatnonzero(np.isin(files, folders))
        if len(taken):
            row = int(taken.min())
            name = next(_names(source, row, row + 1))
            also = "an earlier row has it, too" if len(twice) else "it is the name of another row's folder"
            raise InputError(_words(row, column, name, also))

    comm.on_root(check)


def _digests(source: Source, rank: int, ranks: int, column: str, suffix: str) -> tuple[np.ndarray, np.ndarray]:
    """Return digests, as `(n,)` of 16 bytes each, of the files of a rank's share of the rows, and of their folders."""
    rows = share(source.num_rows, rank, ranks)
    files, folders = [], set()
    for row, name in enumerate(_names(source, rows.start, rows.stop), rows.start):
        reason = refuse_name(name, suffix)
        if reason:
            raise InputError(_words(row, column, name, reason))
        file, *above = (xxhash.xxh3_128_digest(os.fsencode(place)) for place in places_of(name, suffix))
        files.append(file)
        folders |= set(above)
    return np.array(files, "V16"), np.array(list(folders), "V16")


def _names(source: Source, start: int, stop: int) -> Iterator[str]:
    for first in range(start, stop, _BLOCK):
        texts = source.read(first, min(first + _BLOCK, stop))
        assert isinstance(texts, Ragged)
        yield from texts_of(texts)


def _words(row: int, column: str, name: str, reason: str) -> str:
    return f"--keep {column} names the files of the output, and row {row} has {name!r}: {reason}. Keep another column"
