"""Rows that lie in a file at equal distances, such as the fields of records: read by plain reads, never mapped."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from runner.core.checksum import as_bytes
from runner.sources.files import File

_GAP_BYTES = 16 << 10  # between two rows, from which one read for each is faster than one over all
_READ_BYTES = 8 << 20


@dataclass(frozen=True)
class StridedRows:
    """Numbers of one dtype in a file, one row after another.

    Attributes:
        file: the file.
        offset: the first byte of row 0.
        stride: bytes from one row to the next.
        shape: shape of a row.
        dtype: dtype in the file, in its byte order.
    """

    file: File
    offset: int
    stride: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        """The bytes of a row, without those between rows."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows as they lie in the file, in memory of their own.

        Raises:
            InputError: the file has become shorter, or cannot be read.
        """
        rows = np.empty((stop - start, *self.shape), self.dtype)
        if not rows.nbytes:
            return rows
        if self.stride == self.row_bytes:
            self.file.read_into(as_bytes(rows), self.offset + start * self.stride)
        elif self.stride - self.row_bytes > _GAP_BYTES:
            for index in range(stop - start):
                self.file.read_into(as_bytes(rows[index : index + 1]), self.offset + (start + index) * self.stride)
        else:
            self._read_over(rows.view(np.uint8).reshape(stop - start, -1), start)
        return rows

    def _read_over(self, rows: np.ndarray, start: int) -> None:
        """Fill rows of bytes from reads that also take what lies between them."""
        step = max(1, _READ_BYTES // self.stride)
        buffer = np.empty(min(step, len(rows)) * self.stride, np.uint8)
        for first in range(0, len(rows), step):
            count = min(step, len(rows) - first)
            length = (count - 1) * self.stride + self.row_bytes  # the last row may end the file
            self.file.read_into(as_bytes(buffer[:length]), self.offset + (start + first) * self.stride)
            rows[first : first + count] = buffer[: count * self.stride].reshape(count, -1)[:, : self.row_bytes]
