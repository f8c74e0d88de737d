"""What a chunk is computed from: its rows, batch by batch, and their checksum, by which changed data is found."""

from collections.abc import Sequence

import numpy as np

from runner.checksum import checksum_of_text
from runner.errors import InputError
from runner.grid import Chunk, Grid
from runner.rows import Ragged, Rows, rows_checksum, take
from runner.sources import RAGGED, Source

_MOST_NAMED = 3


class BatchReader:
    """Reads batches, one after another.

    Rows of unlike lengths are put in order inside their chunk, the longest first, before batches are cut: so a batch
    holds rows that are about as long as each other, and little of it is padding. The order depends on the chunk alone.

    Args:
        source: where the rows are.
        grid: the cut.
    """

    def __init__(self, source: Source, grid: Grid) -> None:
        self._source, self._grid = source, grid
        self._chunk: Chunk | None = None  # whose rows are at hand, where they are ragged
        self._rows: Ragged | None = None
        self._order = np.empty(0, np.int64)

    def read(self, chunk: Chunk, first: int, last: int) -> tuple[Sequence[int], Rows | InputError]:
        """The numbers of the rows of a batch of a chunk, and the rows, or why they cannot be read.

        Args:
            chunk: the chunk.
            first, last: which of its batches, by what `Grid.batches` gives.
        """
        try:
            if self._source.row_shape != RAGGED:
                return range(first, last), self._source.read(first, last)
            if chunk != self._chunk:
                self._chunk, self._rows = chunk, None
                rows = self._source.read(chunk.start, chunk.stop)
                assert isinstance(rows, Ragged)
                self._rows, self._order = rows, np.argsort(-rows.lengths, kind="stable")
        except InputError as error:
            return range(first, last), error
        if self._rows is None:
            return range(first, last), InputError(f"rows {chunk.start}..{chunk.stop} cannot be read together")
        picked = self._order[first - chunk.start : last - chunk.start]
        return (picked + chunk.start).tolist(), take(self._rows, picked)

    def checksum(self, chunk: Chunk) -> str:
        """The checksum of a chunk's rows as they are now.

        Raises:
            InputError: they cannot be read.
        """
        checksums = []
        for first, last in self._grid.batches(chunk):
            _, rows = self.read(chunk, first, last)
            if isinstance(rows, InputError):
                raise rows
            checksums.append(rows_checksum(rows))
        return chunk_checksum(checksums)


def chunk_checksum(batch_checksums: Sequence[str]) -> str:
    """The checksum of a chunk's rows, from those of its batches in order."""
    return checksum_of_text(" ".join(batch_checksums))


def check_inputs(source: Source, grid: Grid, computed_from: Sequence[tuple[int, str]]) -> None:
    """Raise InputError where the rows of committed chunks are not what their predictions were computed from.

    Args:
        source: the data as it is now.
        grid: its cut.
        computed_from: committed chunks, and the checksums of their rows.
    """
    reader, changed = BatchReader(source, grid), []
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
