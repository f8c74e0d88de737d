"""What a chunk is computed from: its rows, batch by batch, and their checksum, by which changed data is found."""

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np

from runner.checksum import checksum_of_text
from runner.comm import Comm
from runner.config import Config
from runner.errors import InputError, UsageError
from runner.grid import Chunk, Grid, choose_chunk_size, choose_shard_chunks
from runner.rows import (
    Rows,
    RowType,
    RowTypes,
    cuts_by_length,
    is_ragged,
    length_keys,
    lengths_of,
    row_bytes_of,
    rows_checksum,
    take,
)
from runner.sources import Scanned, Source, open_source
from runner.sources.window import WindowSource

_MOST_NAMED = 3


def open_data(config: Config, comm: Comm) -> Source:
    """The data set; what must be looked through, such as the lines of a large file, is shared out among the ranks.

    Raises:
        InputError, UsageError: on every rank alike.
    """
    source = comm.on_each(lambda: open_source(config.data, config.columns, config.keep))
    if isinstance(source, Scanned):
        scans = comm.gather_all(comm.on_each(lambda: source.scan(comm.world.rank, comm.world.world_size)))
        comm.on_each(lambda: source.use(scans))
    comm.on_each(lambda: _check_kept(config, source))
    return WindowSource(source, config.skip, config.limit) if config.skip or config.limit is not None else source


def _check_kept(config: Config, source: Source) -> None:
    if config.keep and isinstance(source.row_type, RowType):
        raise UsageError(f"--keep {', '.join(config.keep)}: there is no other column, for the model to get")


def make_grid(config: Config, source: Source, row_type: RowTypes, ignored: Sequence[str]) -> Grid:
    """The cut of the data set; the same on every rank, and at every resume."""
    row_bytes = source.row_bytes + row_bytes_of(row_type)
    chunk_size = config.chunk_size or choose_chunk_size(
        source.num_rows, config.batch_size, row_bytes, is_ragged(source.row_type, ignored)
    )
    grid = Grid(source.num_rows, config.batch_size, chunk_size)
    if config.collect == "shards":
        return dataclasses.replace(grid, shard_chunks=choose_shard_chunks(grid, row_bytes_of(row_type)))
    return grid


class BatchReader:
    """Reads batches, one after another.

    Rows of unlike lengths are put in order inside their chunk, the longest first, before batches are cut, and a batch
    is cut again where its rows are still too unlike: so it holds rows that are about as long as each other, and little
    of it is padding. Order and cuts depend on the chunk alone.

    Args:
        source: where the rows are.
        grid: the cut.
        ignored: columns whose lengths do not matter, because the model does not get them.
        pads: whether rows of unlike lengths may be in one batch; else it is cut wherever lengths differ.
    """

    def __init__(self, source: Source, grid: Grid, ignored: Collection[str] = (), pads: bool = True) -> None:
        self._pads = pads
        self._source, self._grid, self._ignored = source, grid, ignored
        self._is_ragged = is_ragged(source.row_type, ignored)
        self._chunk: Chunk | None = None  # whose rows are at hand, where they are ragged
        self._rows: Rows | None = None
        self._lengths = self._order = np.empty(0, np.int64)

    def read(self, chunk: Chunk, first: int, last: int) -> list[tuple[Sequence[int], Rows | InputError]]:
        """What goes through the model together: the numbers of the rows, and the rows, or why they cannot be read.

        Args:
            chunk: the chunk.
            first, last: which of its batches, by what `Grid.batches` gives.

        Returns:
            The batch, or where its rows are of unlike lengths perhaps several smaller ones.
        """
        try:
            if not self._is_ragged:
                return [(range(first, last), self._source.read(first, last))]
            if chunk != self._chunk:
                self._chunk, self._rows = chunk, None
                rows = self._source.read(chunk.start, chunk.stop)
                lengths = lengths_of(rows, self._ignored) if self._pads else length_keys(rows, self._ignored)
                assert lengths is not None
                self._rows, self._lengths, self._order = rows, lengths, np.argsort(-lengths, kind="stable")
        except InputError as error:
            return [(range(first, last), error)]
        if self._rows is None:
            together = InputError(f"rows {chunk.start}..{chunk.stop} cannot be read together")
            return [(range(first, last), together)]
        batch = self._order[first - chunk.start : last - chunk.start]
        parts = np.split(batch, cuts_by_length(self._lengths[batch], *[] if self._pads else [1.0]))
        return [((part + chunk.start).tolist(), take(self._rows, part)) for part in parts]

    def checksum(self, chunk: Chunk) -> str:
        """The checksum of a chunk's rows as they are now.

        Raises:
            InputError: they cannot be read.
        """
        checksums = []
        for first, last in self._grid.batches(chunk):
            for _, rows in self.read(chunk, first, last):
                if isinstance(rows, InputError):
                    raise rows
                checksums.append(rows_checksum(rows))
        return chunk_checksum(checksums)


def chunk_checksum(batch_checksums: Sequence[str]) -> str:
    """The checksum of a chunk's rows, from those of its batches in order."""
    return checksum_of_text(" ".join(batch_checksums))


def check_inputs(
    source: Source, grid: Grid, computed_from: Sequence[tuple[int, str]], ignored: Collection[str], pads: bool = True
) -> None:
    """Raise InputError where the rows of committed chunks are not what their predictions were computed from.

    Args:
        source: the data as it is now.
        grid: its cut.
        ignored, pads: see `BatchReader`.
        computed_from: committed chunks, and the checksums of their rows.
    """
    reader, changed = BatchReader(source, grid, ignored, pads), []
    for index, expected in computed_from:
        chunk = grid.chunk(index)
        if reader.checksum(chunk) != expected:
            changed.append(f"{chunk.start}..{chunk.stop}")
    if changed:
        more = f" and {len(changed) - _MOST_NAMED} more chunks" if len(changed) > _MOST_NAMED else ""
        raise InputError(
            f"the data has changed since an earlier job read it: rows {', '.join(changed[:_MOST_NAMED])}{more} are not "
            "what their predictions were computed from. Bring the data back, or start over with --fresh"
        )


def check_unmodified(source: Source, stamp: str, name: str) -> None:
    """Raise InputError where the data is not what it was when this job began.

    Args:
        source: the data.
        stamp: what it said then.
        name: for the message.
    """
    if source.stamp() != stamp:
        raise InputError(
            f"{name} has been written to while this job read it. The same command compares it with what was read, and "
            "goes on where nothing has changed"
        )
