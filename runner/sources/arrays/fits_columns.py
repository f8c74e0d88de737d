"""Columns of a binary table of FITS, read from its records and its heap as astropy's header describes them."""

import math
import re
from typing import Any

import numpy as np

from runner.core.errors import InputError
from runner.data.rows import RAGGED, TEXT, Column, Ragged, RowType
from runner.sources.arrays.named import Array, text_of
from runner.sources.arrays.nullable import NullableArray
from runner.sources.arrays.strided import Records, StridedRows
from runner.sources.base import ReadOptions
from runner.sources.files import File, read_range

_HEAP = re.compile(r"[01]?([PQ])([A-Z])")
_ITEMS = {"B": "u1", "I": "i2", "J": "i4", "K": "i8", "E": "f4", "D": "f8", "C": "c8", "M": "c16", "L": "u1", "A": "S1"}
_TRUE, _FALSE = b"TF"
_BIT, _LOGICAL, _TEXT = "XLA"
_MOST_GAP = 1 << 20  # bytes between values of the heap that are read in one piece


def make_column(hdu: Any, records: Records, name: str, options: ReadOptions, what: str) -> Array:
    """Return a column of a table.

    Args:
        hdu: the table.
        records: its rows.
        name: name of the column.
        options: how nulls are read.
        what: the table, for messages.

    Raises:
        InputError: its values are neither numbers nor text.
    """
    what = f"{what}, column {name!r}"
    column = hdu.columns[name]
    dtype, place = hdu.columns.dtype.fields[name]
    rows = StridedRows(records, place, dtype.shape, dtype.base.newbyteorder(">"))
    count = int(hdu.header["NAXIS2"])
    if heap := _HEAP.match(str(column.format)):
        if heap[2] not in _ITEMS:
            raise InputError(f"{what} is of format {column.format}, which has no rows of numbers or text")
        table_bytes = records.stride * count
        start = records.offset + int(hdu.header.get("THEAP", table_bytes))
        end = records.offset + table_bytes + int(hdu.header["PCOUNT"])
        return _HeapColumn(rows, count, records.file, (start, end), column, what)
    values = _Column(rows, count, column, what)
    return NullableArray(values, options, name, what) if values.has_nulls else _Plain(values)


class _Column:
    """Values of one size in the records, and which of them are null."""

    def __init__(self, rows: StridedRows, count: int, column: Any, what: str) -> None:
        self._rows = rows
        self._what = what
        self._column = column
        self.num_rows = count
        self._letter = str(column.format).lstrip("0123456789")[:1]
        self._null = column.null if rows.dtype.kind in "iu" else None
        self.has_nulls = self._null is not None or self._letter == _LOGICAL
        if self._letter == _TEXT:
            if rows.shape or not rows.dtype.itemsize:
                raise InputError(f"{what} is of shape {rows.shape}, of text; there must be one in each row")
            self.row_type = RowType(RAGGED, TEXT)
        elif self._letter == _BIT:
            self._num_bits = int(str(column.format)[:-1] or 1)
            self.row_type = RowType((self._num_bits,), np.dtype(np.bool_))
        elif self._letter == _LOGICAL:
            self.row_type = RowType(rows.shape, np.dtype(np.bool_))
        else:
            self.row_type = RowType(rows.shape, _scaled(np.zeros(0, rows.dtype), column).dtype)

    def read(self, start: int, stop: int) -> tuple[Column, np.ndarray]:
        values = self._rows.read(start, stop)
        null = np.zeros(values.shape, np.bool_)
        if self._letter == _TEXT:
            return text_of(np.char.rstrip(values)), null
        if self._letter == _BIT:
            bits = np.unpackbits(values.reshape(stop - start, math.prod(self._rows.shape)), axis=1)
            return bits[:, : self._num_bits].astype(np.bool_), null
        if self._letter == _LOGICAL:
            return _truth(values.view(np.uint8), self._what)
        if self._null is not None:
            null = values == self._null
        return _scaled(values, self._column), null


class _Plain:
    """A column without nulls."""

    def __init__(self, values: _Column) -> None:
        self._values = values
        self.num_rows = values.num_rows
        self.row_type = values.row_type
        self.row_bytes = values.row_type.row_bytes

    def read(self, start: int, stop: int) -> Column:
        return self._values.read(start, stop)[0]


class _HeapColumn:
    """Variable-length values, which lie in the heap of the table.

    Args:
        rows: number of values of each row, and where they begin in the heap.
        count: number of rows.
        file: the file.
        heap: where the heap begins and ends in the file.
        column: the column, as astropy describes it.
        what: the column, for messages.
    """

    def __init__(
        self, rows: StridedRows, count: int, file: File, heap: tuple[int, int], column: Any, what: str
    ) -> None:
        self._rows = rows
        self._file = file
        self._heap = heap
        letter = self._letter = str(column.format).lstrip("01")[1]
        self._column = column
        self._what = what
        self.num_rows = count
        self._stored = np.dtype(_ITEMS[letter]).newbyteorder(">")
        if column.null is not None:
            raise InputError(f"{what} has nulls among variable-length values, which no rows have")
        dtype = TEXT if letter == _TEXT else self._converted(np.zeros(0, self._stored)).dtype
        self.row_type = RowType(RAGGED, dtype)
        self.row_bytes = max(1, (heap[1] - heap[0]) // max(1, count))

    def read(self, start: int, stop: int) -> Column:
        lengths, places = self._rows.read(start, stop).astype(np.int64).T
        size = self._stored.itemsize
        first, end = self._heap
        if (lengths < 0).any() or (places < 0).any() or (places + lengths * size > end - first).any():
            raise InputError(f"{self._what}: values of rows {start} to {stop - 1} lie outside of the heap")
        parts = self._pieces(lengths * size, places)
        values = np.frombuffer(b"".join(parts), self._stored)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return Ragged(values.copy().view(TEXT) if self._letter == _TEXT else self._converted(values), offsets)

    def _pieces(self, sizes: np.ndarray, places: np.ndarray) -> list[bytes]:
        """Return the bytes of each row, from one read where they lie together."""
        filled = sizes > 0
        if not filled.any():
            return []
        low, high = int(places[filled].min()), int((places + sizes)[filled].max())
        if high - low > int(sizes.sum()) + _MOST_GAP:
            return [
                read_range(self._file, self._heap[0] + place, self._heap[0] + place + size)
                for place, size in zip(places.tolist(), sizes.tolist(), strict=True)
            ]
        content = read_range(self._file, self._heap[0] + low, self._heap[0] + high)
        return [
            content[place - low : place - low + size]
            for place, size in zip(places.tolist(), sizes.tolist(), strict=True)
        ]

    def _converted(self, values: np.ndarray) -> np.ndarray:
        if self._letter == _LOGICAL:
            truth, null = _truth(values, self._what)
            if null.any():
                raise InputError(f"{self._what}: a logical value is null")
            return truth
        return _scaled(values, self._column)


def _truth(values: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Return logical values, and which of them are null."""
    known = np.isin(values, (_TRUE, _FALSE, 0))
    if not known.all():
        raise InputError(f"{what}: a logical value is byte {int(values[~known][0])}, which is neither T, F nor null")
    return values == _TRUE, values == 0


def _scaled(values: np.ndarray, column: Any) -> np.ndarray:
    """Return numbers as TSCAL and TZERO say, in native byte order; a TZERO of half the range stands for unsigned."""
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    scale = 1 if column.bscale in (None, "") else column.bscale
    zero = 0 if column.bzero in (None, "") else column.bzero
    if scale == 1 and zero == 0:
        return native
    if scale == 1 and (turned := turned_sign(native, zero)) is not None:
        return turned
    wide = np.complex128 if native.dtype.kind == "c" else np.float64
    return native.astype(wide) * scale + zero


def turned_sign(values: np.ndarray, zero: float) -> np.ndarray | None:
    """Return whole numbers of the other sign where the number that is added to stored ones says so; else None.

    Args:
        values: stored numbers, in native byte order.
        zero: the number that is added to each.
    """
    size = values.dtype.itemsize
    half = 1 << (8 * size - 1)
    if values.dtype.kind == "i" and zero == half:
        unsigned: np.ndarray = values.view(f"u{size}") ^ np.array(half, f"u{size}")
        return unsigned
    if values.dtype == np.uint8 and zero == -half:
        signed: np.ndarray = (values ^ np.uint8(half)).view(np.int8)
        return signed
    return None
