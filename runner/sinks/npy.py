"""Predictions into a `.npy` file: each row has its place in `NAME.partial`, which becomes `NAME` when it is whole."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from runner.checksum import as_bytes
from runner.errors import OutputError
from runner.sinks import RowType, check_space


class NpySink:
    """A `.npy` file of shape `(num_rows, *row_type.shape)`, the bytes `numpy.save` would write."""

    def __init__(self, output: str, num_rows: int, row_type: RowType, resume: bool) -> None:
        self._output, self._partial, self._row_type = output, f"{output}.partial", row_type
        header = io.BytesIO()
        description = np.lib.format.dtype_to_descr(row_type.dtype)
        shape = (num_rows, *row_type.shape)
        np.lib.format.write_array_header_1_0(header, {"descr": description, "fortran_order": False, "shape": shape})
        self._offset = len(header.getvalue())
        check_space(self._partial, self._offset + num_rows * row_type.row_bytes)
        with self._storage_errors("opening"):
            self._fd = os.open(self._partial, os.O_RDWR | os.O_CREAT | (0 if resume else os.O_TRUNC), 0o666)
            os.ftruncate(self._fd, self._offset + num_rows * row_type.row_bytes)
            _write_all(self._fd, memoryview(header.getvalue()), 0)

    def write(self, start: int, rows: np.ndarray) -> None:
        assert rows.dtype == self._row_type.dtype, (rows.dtype, self._row_type)
        assert rows.shape[1:] == self._row_type.shape, (rows.shape, self._row_type)
        with self._storage_errors("writing"):
            _write_all(self._fd, as_bytes(rows), self._position(start))

    def read(self, start: int, stop: int) -> np.ndarray:
        rows = np.empty((stop - start, *self._row_type.shape), self._row_type.dtype)
        buffer, position = as_bytes(rows), self._position(start)
        with self._storage_errors("reading"):
            while buffer:
                count = os.preadv(self._fd, [buffer], position)
                if not count:
                    raise OutputError(f"--output: {self._partial} ends at byte {position}, inside its rows")
                buffer, position = buffer[count:], position + count
        return rows

    def sync(self) -> None:
        with self._storage_errors("flushing"):
            os.fsync(self._fd)

    def finish(self) -> None:
        self.sync()
        with self._storage_errors("renaming"):
            os.replace(self._partial, self._output)
            folder = os.open(os.path.dirname(self._output) or ".", os.O_RDONLY)
            try:
                os.fsync(folder)  # the new name, too, must survive a crash
            finally:
                os.close(folder)
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _position(self, row: int) -> int:
        return self._offset + row * self._row_type.row_bytes

    @contextmanager
    def _storage_errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"--output: {doing} {self._partial} failed: {error.strerror}") from error


def _write_all(fd: int, buffer: memoryview, position: int) -> None:
    while buffer:
        count = os.pwrite(fd, buffer, position)
        buffer, position = buffer[count:], position + count
