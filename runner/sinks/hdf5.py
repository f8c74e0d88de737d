"""Predictions in an HDF5 file, written by h5py: a data set for each column."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from runner.core.errors import UsageError
from runner.data.columns import Columns
from runner.data.rows import TEXT, Ragged, RowType, texts_of
from runner.sinks import check_space

_CHUNK_BYTES = 4 << 20
_ELEMENT_BYTES = 16  # of variable length, as HDF5 refers to them


class Hdf5Writer:
    """A writer of columns of fixed shape as arrays; variable-length 1-D rows and text are variable-length elements.

    Args:
        path: path of the file.
        types: types of its columns.
        num_rows: number of rows that it will hold.
    """

    @staticmethod
    def check(output: str, types: Mapping[str, RowType]) -> None:
        """Raise UsageError where h5py is missing, or HDF5 cannot hold a column."""
        import h5py  # noqa: F401 - a missing library is reported here

        for name, row_type in types.items():
            if row_type.is_ragged and len(row_type.shape) > 1:
                raise UsageError(
                    f"--output {output}: HDF5 cannot hold {name!r}, {row_type} per row; .parquet and .jsonl can"
                )

    def __init__(self, path: str, types: Mapping[str, RowType], num_rows: int) -> None:
        import h5py

        # first, because HDF5 only meets a full disk on closing, and reports it in tracebacks
        check_space(path, num_rows * sum(row_type.row_bytes for row_type in types.values() if not row_type.is_ragged))
        self._file = h5py.File(path, "w")
        self._row = 0
        for name, row_type in types.items():
            dtype: Any = row_type.dtype
            if row_type.dtype == TEXT:
                dtype = h5py.string_dtype()
            elif row_type.is_ragged:
                dtype = h5py.vlen_dtype(row_type.dtype)
            shape = (num_rows,) if row_type.is_ragged else (num_rows, *row_type.shape)
            row_bytes = _ELEMENT_BYTES if row_type.is_ragged else row_type.row_bytes
            rows = max(1, min(num_rows, _CHUNK_BYTES // max(1, row_bytes)))
            chunks = (rows, *shape[1:]) if num_rows and all(shape) else None
            self._file.create_dataset(name, shape, dtype, chunks=chunks)

    def write(self, columns: Columns) -> None:
        for name, column in columns.items():
            target = self._file[name]
            if not isinstance(column, Ragged):
                target[self._row : self._row + len(column)] = column
                continue
            items = texts_of(column) if column.values.dtype == TEXT else np.split(column.values, column.offsets[1:-1])
            elements = np.empty(len(items), object)
            for index, item in enumerate(items):
                elements[index] = item
            target[self._row : self._row + len(items)] = elements
        self._row += max(len(column) for column in columns.values())

    def close(self) -> None:
        self._file.close()
