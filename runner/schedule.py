"""Which chunks a rank computes: an iterator of chunks. Knows nothing of what is done with them."""

from collections.abc import Collection, Iterator

from runner.grid import Chunk, Grid, share


def static_slice(grid: Grid, committed: Collection[int], rank: int, world_size: int) -> Iterator[Chunk]:
    """The slice of one rank: its even, contiguous share of the chunks that are not committed yet."""
    missing = [index for index in range(grid.num_chunks) if index not in committed]
    for position in share(len(missing), rank, world_size):
        yield grid.chunk(missing[position])
