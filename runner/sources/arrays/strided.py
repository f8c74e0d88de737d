"""Rows that lie in a file at equal distances, such as the fields of records: read by plain reads, never mapped."""

import math
import threading
from typing import Any

import numpy as np

from runner.core.checksum import as_bytes
from runner.sources.files import File

_GAP_BYTES = 16 << 10  # between two rows, from which one read for each is faster than one over all
_READ_BYTES = 8 << 20
_SWAPPED_BYTES = 256 << 10  # bytes that are swapped while the processor's cache holds them


class Records:
    """Records of one size in a file; the latest that were read are kept for the next of their fields.

    Args:
        file: the file.
        offset: the first byte of record 0.
        stride: bytes from one record to the next.
    """

    def __init__(self, file: File, offset: int, stride: int) -> None:
        self.file = file
        self.offset = offset
        self.stride = stride
        self._lock = threading.Lock()
        self._held: tuple[int, int, np.ndarray] | None = None

    def read(self, start: int, stop: int, last_bytes: int) -> np.ndarray:
        """Return the bytes of records, of the last one only the first ones, which may end the file.

        Raises:
            InputError: the file has become shorter, or cannot be read.
        """
        with self._lock:
            held = self._held
            if held is not None and held[:2] == (start, stop) and len(held[2]) >= self._length(start, stop, last_bytes):
                return held[2]
            self._held = None  # frees its memory before the next records are read
            end = min(self.file.size, self.offset + stop * self.stride)
            length = max(end - self.offset - start * self.stride, self._length(start, stop, last_bytes))
            content = np.empty(length, np.uint8)
            self.file.read_into(as_bytes(content), self.offset + start * self.stride)
            self._held = start, stop, content
            return content

    def _length(self, start: int, stop: int, last_bytes: int) -> int:
        return (stop - start - 1) * self.stride + last_bytes


class StridedRows:
    """Numbers of one dtype in records, one row in each.

    Args:
        records: the records.
        place: the first byte of a row in its record.
        shape: shape of a row.
        dtype: dtype in the file, in its byte order.
    """

    def __init__(self, records: Records, place: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._records = records
        self._place = place
        self.shape = shape
        self.dtype = dtype
        self._native = dtype.newbyteorder("=")
        self._row_bytes = math.prod(shape) * dtype.itemsize
        self._strides = (records.stride, *np.empty(shape, dtype).strides) if self._row_bytes else ()

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows in native byte order, in memory of their own.

        Raises:
            InputError: the file has become shorter, or cannot be read.
        """
        rows = np.empty((stop - start, *self.shape), self._native)
        if not rows.nbytes:
            return rows
        records = self._records
        gap = records.stride - self._row_bytes
        if not gap:
            self._fill(rows, records.offset + start * records.stride)
        elif gap > _GAP_BYTES:
            for index in range(stop - start):
                self._fill(rows[index : index + 1], records.offset + (start + index) * records.stride + self._place)
        else:
            step = max(1, _READ_BYTES // records.stride)
            for first in range(start, stop, step):
                last = min(first + step, stop)
                content = records.read(first, last, self._place + self._row_bytes)
                shape = (last - first, *self.shape)
                rows[first - start : last - start] = np.ndarray(shape, self.dtype, content, self._place, self._strides)
        return rows

    def _fill(self, rows: np.ndarray, position: int) -> None:
        """Fill rows with what lies together in the file."""
        if self.dtype == self._native:
            self._records.file.read_into(as_bytes(rows), position)
            return
        flat = rows.reshape(-1)
        step = _SWAPPED_BYTES // self.dtype.itemsize
        buffer = np.empty(min(step, len(flat)), self.dtype)
        for first in range(0, len(flat), step):
            part = buffer[: len(flat) - first]
            self._records.file.read_into(as_bytes(part), position + first * self.dtype.itemsize)
            flat[first : first + len(part)] = part
