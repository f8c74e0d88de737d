"""Fields of an HDF5 data set of records, such as a table of PyTables or pandas, as columns: numbers and text."""

from typing import Any

import numpy as np

from runner.core.errors import InputError, describe
from runner.data.rows import RAGGED, TEXT, Column, RowType, name_rows
from runner.sources.arrays.named import text_of
from runner.sources.base import DataSpec, check_dtype, no_such

_GUESSED_TEXT_BYTES = 64


def chosen_fields(dataset: Any, spec: DataSpec) -> list[str]:
    """Return the fields of a data set to read as columns; empty where its rows are read as they are.

    Raises:
        InputError: there is no such field.
    """
    known = dataset.dtype.names
    if known is None:
        return []
    wanted = list(dict.fromkeys([*spec.columns, *spec.keep]))
    if not wanted and not any(_is_text(dataset.dtype[name]) for name in known):
        return []
    if not spec.columns and not set(wanted) <= set(known):  # other data sets are kept beside the records
        return []
    for name in wanted:
        if name not in known:
            raise no_such(f"{spec.what}::{dataset.name.lstrip('/')}", name, known, "field")
    return list(dict.fromkeys([*(spec.columns or known), *spec.keep]))


class FieldArray:
    """One field of the records of a data set.

    Raises:
        InputError: it is neither of numbers nor of text.
    """

    def __init__(self, dataset: Any, field: str, what: str) -> None:
        self._fields, self._what = dataset.fields(field), f"{what}, field {field!r}"
        dtype = dataset.dtype[field]
        self.num_rows: int = dataset.shape[0]
        if len(dataset.shape) != 1:
            raise InputError(f"{what} is of shape {dataset.shape}, of records; there must be one in each row")
        if _is_text(dtype):
            self.row_type, self.row_bytes = RowType(RAGGED, TEXT), dtype.itemsize or _GUESSED_TEXT_BYTES
            return
        check_dtype(dtype.base, self._what)
        self.row_type = RowType(dtype.shape, np.dtype(dtype.base.newbyteorder("=").str))
        self.row_bytes = self.row_type.row_bytes

    def read(self, start: int, stop: int) -> Column:
        try:
            values = self._fields[start:stop]
            return text_of(values) if self.row_type.is_ragged else np.ascontiguousarray(values, self.row_type.dtype)
        except Exception as error:  # a damaged chunk raises one of many exception types
            rows = name_rows(range(start, stop))
            raise InputError(f"{self._what}: {rows} cannot be read: {describe(error)}") from error


def _is_text(dtype: np.dtype[Any]) -> bool:
    import h5py

    return h5py.check_string_dtype(dtype) is not None or dtype.kind == "S"
