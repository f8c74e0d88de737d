"""What a chunk was computed from: the checksum of its rows as they were read, by which changed data is found."""

from collections.abc import Sequence

from runner.checksum import checksum, checksum_of_text
from runner.errors import InputError
from runner.grid import Grid
from runner.sources import Source

_MOST_NAMED = 3


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
    changed = []
    for index, expected in computed_from:
        chunk = grid.chunk(index)
        found = chunk_checksum([checksum(source.read(first, last)) for first, last in grid.batches(chunk)])
        if found != expected:
            changed.append(f"{chunk.start}..{chunk.stop}")
    if changed:
        more = f" and {len(changed) - _MOST_NAMED} more chunks" if len(changed) > _MOST_NAMED else ""
        raise InputError(
            f"the data has changed since an earlier job read it: rows {', '.join(changed[:_MOST_NAMED])}{more} are not "
            "what their predictions were computed from. Bring the data back, or start over with --fresh"
        )
