"""Predictions in a `.npy` file: rows are written in place in `NAME.partial`, renamed to `NAME` when it is complete."""

import io
import os

import numpy as np

from runner.core.checksum import as_bytes
from runner.data.rows import RowType
from runner.sinks import check_space, read_all, rename, storage_errors, write_all


class NpyFile:
    """A `.npy` file of shape `(num_rows, *row_type.shape)`, as `numpy.save` would write it; existing rows are kept.

    Args:
        path: path of the file.
        num_rows: number of rows that it will hold.
        row_type: shape and dtype of a row.

    Raises:
        OutputError: from every method, when the storage fails.
    """

    def __init__(self, path: str, num_rows: int, row_type: RowType) -> None:
        self._path = path
        self._row_type = row_type
        header = io.BytesIO()
        description = np.lib.format.dtype_to_descr(row_type.dtype)
        shape = (num_rows, *row_type.shape)
        np.lib.format.write_array_header_1_0(header, {"descr": description, "fortran_order": False, "shape": shape})
        self._offset = len(header.getvalue())
        with storage_errors("opening", path):
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            os.ftruncate(self._fd, self._offset + num_rows * row_type.row_bytes)
            write_all(self._fd, memoryview(header.getvalue()), 0)

    def write(self, start: int, rows: np.ndarray) -> None:
        """Write rows at `start..start + len(rows)`."""
        assert rows.dtype == self._row_type.dtype, (rows.dtype, self._row_type)
        assert rows.shape[1:] == self._row_type.shape, (rows.shape, self._row_type)
        with storage_errors("writing", self._path):
            write_all(self._fd, as_bytes(rows), self._position(start))

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows as they were written."""
        rows = np.empty((stop - start, *self._row_type.shape), self._row_type.dtype)
        with storage_errors("reading", self._path):
            read_all(self._fd, as_bytes(rows), self._position(start), self._path)
        return rows

    def sync(self) -> None:
        """Make the rows written so far survive a crash of the machine."""
        with storage_errors("flushing", self._path):
            os.fsync(self._fd)

    def complete(self) -> str:
        """Return ""; see `Sink.complete`."""
        return ""

    def discard(self) -> None:
        """Do nothing; see `Sink.discard`."""

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _position(self, row: int) -> int:
        return self._offset + row * self._row_type.row_bytes


class NpySink(NpyFile):
    """A `.npy` file that gets its name once it is complete; it resumes from what an unfinished run has written."""

    def __init__(self, output: str, num_rows: int, row_type: RowType) -> None:
        self._output = output
        self._partial = f"{output}.partial"
        check_space(self._partial, num_rows * row_type.row_bytes)
        super().__init__(self._partial, num_rows, row_type)

    def finish(self) -> None:
        self.sync()
        rename(self._partial, self._output)
        self.close()
