"""The index arithmetic, by exhaustion over small numbers and by a table of odd ones."""

import pytest

from runner.chunks.grid import CHUNK_BYTES, Chunk, Grid, choose_chunk_size, share
from runner.chunks.schedule import guided_blocks, static_slice


@pytest.mark.parametrize("num_rows", [*range(0, 40), 97, 1797])
@pytest.mark.parametrize(("batch_size", "batches_per_chunk"), [(1, 1), (1, 7), (5, 1), (5, 3), (32, 2)])
def test_batches_and_chunks_cover_every_row_once_in_order(
    num_rows: int, batch_size: int, batches_per_chunk: int
) -> None:
    grid = Grid(num_rows, batch_size, batch_size * batches_per_chunk)
    chunks = [grid.chunk(index) for index in range(grid.num_chunks)]
    batches = [batch for chunk in chunks for batch in grid.batches(chunk)]
    assert [row for start, stop in batches for row in range(start, stop)] == list(range(num_rows))
    assert all(start % batch_size == 0 for start, _ in batches)
    assert all(stop - start == batch_size for start, stop in batches[:-1])
    assert [row for chunk in chunks for row in range(chunk.start, chunk.stop)] == list(range(num_rows))


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("num_items", [0, 1, 2, 7, 63, 64, 65, 1797])
def test_shares_are_contiguous_and_even(num_items: int, world_size: int) -> None:
    shares = [share(num_items, rank, world_size) for rank in range(world_size)]
    assert [item for part in shares for item in part] == list(range(num_items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("num_rows", "batch_size", "row_bytes", "chunk_size"),
    [
        (0, 32, 100, 32),  # at least one batch
        (1797, 32, 100, 32),  # few rows: small chunks, so that every rank gets some
        (10_000_000, 32, 100, 32 * 305),  # 312,500 batches: 1,024 chunks or more
        (10**9, 32, 100, 32 * (CHUNK_BYTES // 3200)),  # many rows: chunks of about CHUNK_BYTES
        (10**9, 32, 10**9, 32),  # a row of a gigabyte
        (10**6, 1, 0, 976),  # rows without bytes
    ],
)
def test_chosen_chunk_size(num_rows: int, batch_size: int, row_bytes: int, chunk_size: int) -> None:
    assert choose_chunk_size(num_rows, batch_size, row_bytes, is_ragged=False) == chunk_size
    assert chunk_size % batch_size == 0


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("committed", [set(), {0}, {0, 1, 2}, {4, 9}, set(range(10))])
def test_slices_share_what_is_missing(committed: set[int], world_size: int) -> None:
    grid = Grid(97, 5, 10)
    slices = [list(static_slice(grid, committed, rank, world_size)) for rank in range(world_size)]
    missing = [index for index in range(10) if index not in committed]
    assert [chunk.index for part in slices for chunk in part] == missing
    assert all(
        chunk == Chunk(chunk.index, chunk.index * 10, min(97, chunk.index * 10 + 10)) for p in slices for chunk in p
    )


@pytest.mark.parametrize("num_items", [0, 1, 2, 97, 1024, 10_007])
@pytest.mark.parametrize("world_size", [1, 2, 3, 64, 2000])
def test_guided_blocks_are_all_items_in_order_and_become_smaller(num_items: int, world_size: int) -> None:
    blocks = guided_blocks(num_items, world_size)
    assert [item for block in blocks for item in block] == list(range(num_items))
    sizes = [len(block) for block in blocks]
    assert sizes == sorted(sizes, reverse=True)
    assert not sizes or (sizes[-1] == 1 and sizes[0] <= max(1, num_items / world_size / 8))


@pytest.mark.parametrize(
    ("num_rows", "row_bytes", "batches"),
    [(5_000, 800, 16), (1_500, 800, 5), (100, 800, 1), (100_000, 800, 16), (10_000_000, 8, 305)],
)
def test_chunks_of_ragged_rows_hold_several_batches(num_rows: int, row_bytes: int, batches: int) -> None:
    assert choose_chunk_size(num_rows, 32, row_bytes, is_ragged=True) == 32 * batches
