"""Arrays in HDF5, netCDF and Zarr: their names, those of their dimensions, and their chunks."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from runner.core.errors import UsageError, describe
from runner.data.rows import RowType

ROW = "row"  # the dimension of all arrays, where no column has this name
_RESERVED = {"", ".", "..", "zarr.json"}
_LONGEST = 255  # bytes: parts of names of Zarr are names of folders


@contextmanager
def trying(output: str, format_name: str, name: str) -> Iterator[None]:
    """Raise UsageError where an array cannot have a name: it would get another, or its library fails to make it."""
    advice = "Rename it with --postprocess or in the data, or write .parquet"
    for part in name.split("/"):
        if part in _RESERVED or "\0" in part or len(part.encode()) > _LONGEST:
            raise UsageError(f"--output {output}: {format_name} cannot hold an array named {name!r}. {advice}")
    try:
        yield
    except Exception as error:  # each library has several kinds
        raise UsageError(
            f"--output {output}: {format_name} cannot hold an array named {name!r} beside the others: "
            f"{describe(error)}. {advice}"
        ) from error


def dimension_names(types: Mapping[str, RowType]) -> dict[str, list[str]]:
    """Return the names of each column's dimensions, none of them the name of a column.

    xarray and netCDF take an array for the coordinates of the dimension of its name.
    """
    return {
        name: [
            _free(ROW, types),
            *(_free(f"{name}_{axis}", types) for axis in range(0 if row_type.is_ragged else len(row_type.shape))),
        ]
        for name, row_type in types.items()
    }


def chunk_shape(shape: tuple[int, ...], item_bytes: int, most_bytes: int) -> tuple[int, ...]:
    """Return the shape of a chunk: as many whole rows as `most_bytes` hold, or a part of one that is larger."""
    chunk = [max(1, length) for length in shape]
    for axis in range(len(chunk)):
        inner_bytes = item_bytes
        for length in chunk[axis + 1 :]:
            inner_bytes *= length
        chunk[axis] = min(chunk[axis], max(1, most_bytes // max(1, inner_bytes)))
        if chunk[axis] > 1:
            break
    return tuple(chunk)


class ChunkedArray:
    """Rows of an array in their order, written a whole chunk at a time: a part of one would be encoded anew each time.

    Args:
        array: the array in the library of the format.
        chunk_rows: number of rows in a chunk.
    """

    def __init__(self, array: Any, chunk_rows: int) -> None:
        self._array = array
        self._chunk_rows = chunk_rows
        self._row = 0
        self._waiting: list[np.ndarray] = []
        self._num_waiting = 0

    def write(self, rows: np.ndarray) -> None:
        """Append rows, in memory that nobody changes."""
        self._waiting.append(rows)
        self._num_waiting += len(rows)
        if self._num_waiting >= self._chunk_rows:
            self._put(self._num_waiting - self._num_waiting % self._chunk_rows)

    def flush(self) -> None:
        """Write the rows of the last chunk."""
        if self._num_waiting:
            self._put(self._num_waiting)

    def _put(self, count: int) -> None:
        rows = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
        self._array[self._row : self._row + count] = rows[:count]
        self._row += count
        self._num_waiting -= count
        self._waiting = [rows[count:]] if self._num_waiting else []


def _free(name: str, taken: Mapping[str, RowType]) -> str:
    while name in taken:
        name += "_"
    return name
