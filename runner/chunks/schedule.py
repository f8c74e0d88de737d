"""Schedules: iterators over the chunks that one rank computes. Knows nothing of what is done with them."""

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np

from runner.chunks.grid import Chunk, Grid, share

_BLOCKS = 8  # a rank takes 1 / (8 * ranks) of the remainder, so that one that is 8 times slower is not the last


def make_schedule(
    grid: Grid, committed: Collection[int], draw: Callable[[], int] | None, rank: int, world_size: int
) -> Iterator[Chunk]:
    """Return an iterator over the chunks of one rank: the chunks it draws, if `draw` is given; else its static slice.

    `draw` returns the next number of a counter that all ranks share.
    """
    if draw is None:
        return static_slice(grid, committed, rank, world_size)
    return dynamic_share(grid, committed, draw, world_size)


def static_slice(grid: Grid, committed: Collection[int], rank: int, world_size: int) -> Iterator[Chunk]:
    """Yield the chunks of one rank: its even, contiguous share of the chunks that are not committed yet."""
    missing = MissingChunks(grid, committed)
    for position in share(len(missing), rank, world_size):
        yield from map(grid.chunk, missing[position])


def dynamic_share(grid: Grid, committed: Collection[int], draw: Callable[[], int], world_size: int) -> Iterator[Chunk]:
    """Yield chunks as this rank becomes free: block after block of the missing chunks, each by drawing a number.

    Guided self-scheduling (Polychronopoulos and Kuck, 1987): blocks are large at first, so that a rank reads rows that
    lie together, and single chunks in the end, so that all ranks finish together.
    """
    missing = MissingChunks(grid, committed)
    blocks = guided_blocks(len(missing), world_size)
    while (number := draw()) < len(blocks):
        for position in blocks[number]:
            yield from map(grid.chunk, missing[position])


class MissingChunks:
    """Sequence of the chunks that are not committed yet, in order; an item lists the chunks that one rank must compute.

    An item is one chunk; or all missing chunks of a file, which no two ranks may write to. Takes 16 bytes per chunk.
    """

    def __init__(self, grid: Grid, committed: Collection[int]) -> None:
        is_missing = np.ones(grid.num_chunks, bool)
        is_missing[np.fromiter(committed, np.int64, len(committed))] = False
        self._chunks = np.flatnonzero(is_missing)
        files = self._chunks // (grid.shard_chunks or 1)
        self._ends = np.append(np.flatnonzero(np.diff(files)) + 1, len(files)) if len(files) else files

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, position: int) -> list[int]:
        if not 0 <= position < len(self):
            raise IndexError(position)
        start = self._ends[position - 1] if position else 0
        item: list[int] = self._chunks[start : self._ends[position]].tolist()
        return item


def guided_blocks(num_items: int, world_size: int) -> Sequence[range]:
    """Split the items `0..num_items`, in order, into blocks that become smaller; equal on every rank."""
    blocks = []
    start = 0
    while start < num_items:
        stop = start + max(1, (num_items - start) // (_BLOCKS * world_size))
        blocks.append(range(start, stop))
        start = stop
    return blocks
