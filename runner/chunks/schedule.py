"""Which chunks a rank computes: an iterator of chunks. Knows nothing of what is done with them."""

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np

from runner.chunks.grid import Chunk, Grid, share

_BLOCKS = 8  # a rank takes 1 / (8 * ranks) of what is left, so that one that is 8 times slower is not the last


def make_schedule(
    grid: Grid, committed: Collection[int], draw: Callable[[], int] | None, rank: int, world_size: int
) -> Iterator[Chunk]:
    """The chunks of one rank: what it draws, where a function draws the next number of all ranks; else its slice."""
    if draw is None:
        return static_slice(grid, committed, rank, world_size)
    return dynamic_share(grid, committed, draw, world_size)


def static_slice(grid: Grid, committed: Collection[int], rank: int, world_size: int) -> Iterator[Chunk]:
    """The slice of one rank: its even, contiguous share of the chunks that are not committed yet."""
    missing = MissingChunks(grid, committed)
    for position in share(len(missing), rank, world_size):
        yield from map(grid.chunk, missing[position])


def dynamic_share(grid: Grid, committed: Collection[int], draw: Callable[[], int], world_size: int) -> Iterator[Chunk]:
    """Whatever this rank is free to take: block after block of the missing chunks, each by drawing a number.

    Guided self-scheduling (Polychronopoulos and Kuck, 1987): blocks are large at first, so that a rank reads rows that
    lie together, and single chunks in the end, so that all ranks end together.
    """
    missing = MissingChunks(grid, committed)
    blocks = guided_blocks(len(missing), world_size)
    while (number := draw()) < len(blocks):
        for position in blocks[number]:
            yield from map(grid.chunk, missing[position])


class MissingChunks:
    """The chunks that are not committed yet, in order; one item has those that one rank must compute.

    That is each chunk by itself; or all of a file, which no two ranks may write to. It takes 16 bytes a chunk.
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
    """The items `0..num_items` in order, in blocks that become smaller; the same on every rank."""
    blocks, start = [], 0
    while start < num_items:
        stop = start + max(1, (num_items - start) // (_BLOCKS * world_size))
        blocks.append(range(start, stop))
        start = stop
    return blocks
