"""Index arithmetic: rows into batches, batches into chunks, chunks into shares. Knows no data and no rank's progress.

Every range is half-open. The partition depends on the index alone, never on a rank or on what was computed before:
this is why the output does not depend on the number of ranks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

CHUNK_BYTES = 4 << 20  # a chunk of this size is cheap to hold and long enough to hide the cost of handing it over
# For variable-length rows: so many batches per chunk leave little padding in each; at least so many chunks to share.
SORTED_BATCHES = 16
SORTED_CHUNKS = 8
MIN_CHUNKS = 1024  # at least this many, if there are enough batches, to share them evenly among many ranks
SHARD_BYTES = 64 << 20  # of predictions: file systems of clusters prefer few large files; but again enough to share


@dataclass(frozen=True)
class Chunk:
    """Rows `start..stop` of the data set, the unit of scheduling, collection and commit."""

    index: int
    start: int
    stop: int


@dataclass(frozen=True)
class Grid:
    """Partition of `num_rows` rows into batches of `batch_size` rows and chunks of `chunk_size` rows.

    Where the output is a folder, each of its files holds `shard_chunks` chunks; 0 where the output is one file.
    """

    num_rows: int
    batch_size: int
    chunk_size: int
    shard_chunks: int = 0

    def __post_init__(self) -> None:
        assert self.num_rows >= 0, self
        assert self.batch_size >= 1, self
        assert self.chunk_size >= 1, self
        assert self.chunk_size % self.batch_size == 0, self

    @property
    def num_chunks(self) -> int:
        """The number of chunks; the last may be short."""
        return -(-self.num_rows // self.chunk_size)

    @property
    def shard_rows(self) -> int:
        """The number of rows per file of a folder; the last file may be short."""
        return self.shard_chunks * self.chunk_size

    def chunk(self, index: int) -> Chunk:
        """Return the chunk with this index."""
        assert 0 <= index < self.num_chunks, (index, self)
        start = index * self.chunk_size
        return Chunk(index, start, min(start + self.chunk_size, self.num_rows))

    def batches(self, chunk: Chunk) -> Iterator[tuple[int, int]]:
        """Yield the `(start, stop)` of each batch of a chunk; the last batch of the data set may be short."""
        for start in range(chunk.start, chunk.stop, self.batch_size):
            yield start, min(start + self.batch_size, chunk.stop)


def choose_chunk_size(num_rows: int, batch_size: int, row_bytes: int, is_ragged: bool) -> int:
    """Return the number of rows per chunk, a multiple of `batch_size`.

    Args:
        num_rows: rows of the data set.
        batch_size: rows of one forward call.
        row_bytes: bytes of one row, input and output together.
        is_ragged: rows are of variable length; they are sorted by length inside a chunk.
    """
    by_size = CHUNK_BYTES // max(1, batch_size * row_bytes)
    by_count = num_rows // batch_size // MIN_CHUNKS
    if is_ragged:
        by_count = max(by_count, min(SORTED_BATCHES, num_rows // batch_size // SORTED_CHUNKS))
    return batch_size * max(1, min(by_size, by_count))


def choose_shard_chunks(grid: Grid, row_bytes: int) -> int:
    """Return the number of chunks per file of an output that is a folder.

    Args:
        grid: the partition of the rows.
        row_bytes: bytes of one row of predictions.
    """
    return max(1, min(SHARD_BYTES // max(1, grid.chunk_size * row_bytes), grid.num_chunks // MIN_CHUNKS))


def share(num_items: int, rank: int, world_size: int) -> range:
    """Return the contiguous items of one rank when `num_items` are shared evenly: sizes differ by one at most."""
    assert 0 <= rank < world_size, (rank, world_size)
    return range(num_items * rank // world_size, num_items * (rank + 1) // world_size)
