"""Columns of arrays that tell which values are null, and columns of categories."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from runner.core.errors import InputError
from runner.core.imports import import_extra
from runner.data.cell_types import arrow_type
from runner.data.cells import to_cells, type_of_cells
from runner.data.rows import RAGGED, Column, Ragged, RowType, take_column, texts_of
from runner.sources.arrays.named import Array, one_row
from runner.sources.base import ReadOptions
from runner.sources.tables.values import NAN_ADVICE

_ADVICE = "Set such rows aside with --on-error quarantine"


class _Values(Protocol):
    """Values of rows, and which of them are null, instead of being values."""

    @property
    def num_rows(self) -> int: ...
    @property
    def row_type(self) -> RowType: ...
    def read(self, start: int, stop: int) -> tuple[Column, np.ndarray]: ...


class Masked:
    """Values beside an array of booleans, which are true where a value is null."""

    def __init__(self, values: Array, mask: Array) -> None:
        self._values = values
        self._mask = mask
        self.num_rows = values.num_rows
        self.row_type = values.row_type

    def read(self, start: int, stop: int) -> tuple[Column, np.ndarray]:
        return self._values.read(start, stop), np.asarray(self._mask.read(start, stop), np.bool_)


class Categories:
    """Numbers of categories, of which -1 stands for null.

    Args:
        codes: the numbers.
        categories: all categories.
        what: the column, for messages.
    """

    def __init__(self, codes: Array, categories: Array, what: str) -> None:
        self._codes = codes
        self._what = what
        self.num_rows = codes.num_rows
        self.row_type = categories.row_type
        self._categories = categories.read(0, categories.num_rows)

    def read(self, start: int, stop: int) -> tuple[Column, np.ndarray]:
        codes = np.asarray(self._codes.read(start, stop), np.int64)
        if len(codes) and codes.max() >= len(self._categories):
            raise InputError(f"{self._what} is damaged: it has a category {codes.max()} of {len(self._categories)}")
        null = codes < 0
        categories = self._categories if len(self._categories) else one_row(self.row_type)
        return take_column(categories, np.where(null, 0, codes)), null


class NullableArray:
    """A column of values or nulls: as cells where it is passed through, else a null is a bad row, or NaN.

    Args:
        values: the values.
        options: how they are read.
        name: name of the column as the user gave it.
        what: the column, for messages.
    """

    def __init__(self, values: _Values, options: ReadOptions, name: str, what: str) -> None:
        self._values = values
        self._what = what
        self.num_rows = values.num_rows
        self.row_type = values.row_type
        self._to_cells = name in options.cells and (self.row_type.is_ragged or not self.row_type.shape)
        self._null_is_nan = options.null_is_nan and self.row_type.dtype.kind in "iuf"
        if self._to_cells:
            pa = import_extra("pyarrow", f"{what}, kept beside predictions,", "parquet")
            is_text = self.row_type.is_ragged
            kind = pa.string() if is_text else pa.from_numpy_dtype(self.row_type.dtype)
            self.row_type = RowType(RAGGED, type_of_cells(kind))
        elif self._null_is_nan:
            self.row_type = RowType(self.row_type.shape, np.result_type(self.row_type.dtype, np.float64))
        self.row_bytes = self.row_type.row_bytes

    def read(self, start: int, stop: int) -> Column:
        column, null = self._values.read(start, stop)
        if self._to_cells:
            return self._as_cells(column, null)
        if self._null_is_nan and isinstance(column, np.ndarray):
            numbers = column.astype(self.row_type.dtype)
            numbers[null] = np.nan
            return numbers
        if null.any():
            row = start + int(np.argwhere(null)[0, 0])
            advice = NAN_ADVICE if self.row_type.dtype.kind in "iuf" else _ADVICE
            raise InputError(f"{self._what}: row {row} is null. {advice}")
        return column

    def _as_cells(self, column: Column, null: np.ndarray) -> Ragged:
        import pyarrow as pa

        kind = arrow_type(self.row_type.dtype)
        values: Any = texts_of(column) if isinstance(column, Ragged) else column
        return to_cells(pa.array(values, kind, mask=null), self.row_type.dtype)


NodeReader = Callable[[Any, str], Array]  # of an array of h5py or zarr, and the words for it in messages
