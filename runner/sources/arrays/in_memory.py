"""Rows of an array or tensor that every rank holds, given from Python."""

from typing import Any

import numpy as np

from runner.core.checksum import checksum
from runner.core.errors import InputError, describe
from runner.data.rows import RowType
from runner.sources.base import check_dtype


class ArraySource:
    """A NumPy array, a CPU tensor, or an object that `numpy.asarray` accepts; its first axis is the rows.

    Raises:
        InputError: it is not an array of numbers.
    """

    def __init__(self, data: Any) -> None:
        try:
            self._rows = np.asarray(data)
        except Exception as error:
            raise InputError(f"data, a {type(data).__name__}, is not an array: {describe(error)}") from error
        check_dtype(self._rows.dtype, "data")
        if self._rows.ndim == 0:
            raise InputError(f"data, a {type(data).__name__}, is a single value; its first axis must be the rows")
        self.num_rows = self._rows.shape[0]
        self.row_type = RowType(self._rows.shape[1:], self._rows.dtype.newbyteorder("="))
        self.row_bytes = self._rows.nbytes // max(1, self.num_rows)

    def read(self, start: int, stop: int) -> np.ndarray:
        return np.array(self._rows[start:stop], dtype=self.row_type.dtype, order="C")

    def stamp(self) -> str:
        return ""  # its digest covers every byte

    def digest(self) -> str:
        return checksum(np.ascontiguousarray(self._rows))
