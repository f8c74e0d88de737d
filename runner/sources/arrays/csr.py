"""Rows of a sparse matrix in CSR form, made dense range by range."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from runner.core.errors import InputError, describe
from runner.data.rows import RowType, name_rows
from runner.sources.base import check_dtype


class CsrArray:
    """A matrix of three arrays: values, their columns, and where each row begins among them.

    Args:
        data, indices, indptr: the arrays, of h5py or zarr.
        shape: number of rows and of columns.
        what: the matrix, for messages.

    Raises:
        InputError: the arrays do not belong together, or torch cannot hold the dtype.
    """

    def __init__(self, data: Any, indices: Any, indptr: Any, shape: Sequence[int], what: str) -> None:
        self._data = data
        self._indices = indices
        self._indptr = indptr
        self._what = what
        self.num_rows, self._num_columns = map(int, shape)
        if indptr.shape != (self.num_rows + 1,) or data.ndim != 1 or data.shape != indices.shape:
            raise InputError(
                f"{what} is damaged: a sparse matrix of shape {(self.num_rows, self._num_columns)} has data of shape "
                f"{data.shape}, indices of {indices.shape} and indptr of {indptr.shape}"
            )
        check_dtype(data.dtype, what)
        self.row_type = RowType((self._num_columns,), data.dtype.newbyteorder("="))
        self.row_bytes = self.row_type.row_bytes

    def read(self, start: int, stop: int) -> np.ndarray:
        try:
            bounds = np.asarray(self._indptr[start : stop + 1]).astype(np.int64)
            first, last = int(bounds[0]), int(bounds[-1])
            lengths = np.diff(bounds)
            if first < 0 or last > self._data.shape[0] or (lengths < 0).any():
                raise ValueError(f"indptr leads from {first} to {last}, of {self._data.shape[0]} values")
            columns = np.asarray(self._indices[first:last]).astype(np.int64)
            values = np.asarray(self._data[first:last])
            if len(columns) and not 0 <= columns.min() <= columns.max() < self._num_columns:
                raise ValueError(f"a column is outside of 0 to {self._num_columns - 1}")
        except Exception as error:  # a damaged chunk raises one of many exception types
            rows = name_rows(range(start, stop))
            raise InputError(f"{self._what}: {rows} cannot be read: {describe(error)}") from error
        dense = np.zeros((stop - start, self._num_columns), self.row_type.dtype)
        places = np.repeat(np.arange(stop - start, dtype=np.int64) * self._num_columns, lengths) + columns
        if (np.diff(places) > 0).all():
            dense.reshape(-1)[places] = values
        else:  # several values at one place are a sum
            np.add.at(dense.reshape(-1), places, values)
        return dense
