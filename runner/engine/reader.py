"""Input of chunks: their rows, batch by batch, and their checksums, by which changed data is found."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from runner.chunks.grid import Chunk, Grid, choose_chunk_size, choose_shard_chunks
from runner.config.options import Config
from runner.core.checksum import checksum_of_text
from runner.core.errors import ChunkError, InputError, ModelError
from runner.core.text import plural, row_range
from runner.data.rows import Rows, RowTypes, is_ragged, row_bytes_of, rows_checksum, take
from runner.engine.batching import Batching
from runner.sources import Source

_MOST_NAMED = 3


def make_grid(config: Config, source: Source, row_type: RowTypes, ignored: Sequence[str]) -> Grid:
    """Return the partition of the data set; the same on every rank, and at every resume."""
    row_bytes = source.row_bytes + row_bytes_of(row_type)
    chunk_size = config.chunk_size or choose_chunk_size(
        source.num_rows,
        config.batch_size,
        row_bytes,
        is_ragged(source.row_type, ignored) or config.batch_cost is not None,
    )
    grid = Grid(source.num_rows, config.batch_size, chunk_size)
    if config.collect_mode.output_is_folder:
        return dataclasses.replace(grid, shard_chunks=choose_shard_chunks(grid, row_bytes_of(row_type)))
    return grid


class Part(NamedTuple):
    """Rows of one forward call.

    Attributes:
        ids: numbers of the rows.
        rows: the rows, or the reason why they cannot be read.
        checksum: checksum of the rows; empty where they cannot be read, None where an earlier part of the chunk has it
            for all rows.
    """

    ids: Sequence[int]
    rows: Rows | InputError
    checksum: str | None


class BatchReader:
    """Reader of batches, one after another.

    Args:
        source: the data set.
        grid: the partition of the rows.
        batching: from the rows of a chunk to its batches; None where the grid cuts them. Chunks are read in one piece
            if it is given.
    """

    def __init__(self, source: Source, grid: Grid, batching: Batching | None = None) -> None:
        self._source = source
        self._grid = grid
        self._batching = batching
        self._chunk: Chunk | None = None  # the chunk in memory
        self._rows: Rows | ChunkError
        self._batches: list[np.ndarray] = []
        self._checksum: str | None = None
        self._position = 0

    def read(self, chunk: Chunk, first: int, last: int) -> list[Part]:
        """Read a batch, perhaps in several parts.

        Args:
            chunk: the chunk; its batches are read in order.
            first, last: rows of the batch, from `Grid.batches`. With `batching`, all its batches whose last row, in the
                order of the batches, lies there: maybe none, but not at the end of the chunk.
        """
        if self._batching is None:
            try:
                rows = self._source.read(first, last)
            except InputError as error:
                return [Part(range(first, last), error, "")]
            return [Part(range(first, last), rows, rows_checksum(rows))]
        if chunk != self._chunk or first == chunk.start:
            self._open(chunk, self._batching)
        if isinstance(self._rows, ChunkError):
            return [Part(range(first, last), self._rows, "")]
        parts = []
        while self._batches and self._position + len(self._batches[0]) <= last - chunk.start:
            batch = self._batches.pop(0)
            self._position += len(batch)
            parts.append(Part((batch + chunk.start).tolist(), take(self._rows, batch), self._checksum))
            self._checksum = None
        return parts

    def _open(self, chunk: Chunk, batching: Batching) -> None:
        self._chunk = chunk
        self._position = 0
        try:
            self._rows = rows = self._source.read(chunk.start, chunk.stop)
            self._batches = batching(rows, chunk.start)
            self._checksum = rows_checksum(rows)
        except ChunkError as error:
            self._rows = error
        except ModelError:
            raise
        except InputError as error:
            self._rows = ChunkError(error.message, error.details)


def chunk_checksum(batch_checksums: Sequence[str]) -> str:
    """Return the checksum of a chunk's rows, from the checksums of its batches in order."""
    return checksum_of_text(" ".join(batch_checksums))


def check_inputs(source: Source, grid: Grid, computed_from: Sequence[tuple[int, str]]) -> None:
    """Raise InputError if the rows of committed chunks are not those that their predictions were computed from.

    Args:
        source: the data as it is now.
        grid: the partition of its rows.
        computed_from: committed chunks, and the checksums of their rows.
    """
    changed = []
    for index, expected in computed_from:
        chunk = grid.chunk(index)
        if expected not in _checksums(source, grid, chunk):
            changed.append(row_range(chunk.start, chunk.stop))
    if changed:
        more = f" and {plural(len(changed) - _MOST_NAMED, 'more chunk')}" if len(changed) > _MOST_NAMED else ""
        raise InputError(
            f"the data is not what the predictions were computed from: {', '.join(changed[:_MOST_NAMED])}{more} differ "
            "from what was read then, which has changed since, or was another copy on another host. Restore the data, "
            "or start over with --fresh"
        )


def _checksums(source: Source, grid: Grid, chunk: Chunk) -> Iterator[str]:
    """Yield the checksums that a chunk's rows may have: read batch by batch, and in one piece (see `BatchReader`).

    Raises:
        InputError: the rows cannot be read.
    """
    ways = [grid.batches(chunk), [(chunk.start, chunk.stop)]]
    for pieces in reversed(ways) if is_ragged(source.row_type) else ways:
        yield chunk_checksum([rows_checksum(source.read(first, last)) for first, last in pieces])


def check_unmodified(source: Source, stamp: str, name: str) -> None:
    """Raise InputError if the data has changed since this job began.

    Args:
        source: the data.
        stamp: its `stamp()` at the start.
        name: name of the data, for the message.
    """
    if source.stamp() != stamp:
        raise InputError(
            f"{name} was modified while this job read it. The same command compares it with what was read, and resumes "
            "if nothing has changed"
        )
