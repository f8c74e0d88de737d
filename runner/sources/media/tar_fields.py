"""What the fields of samples in a `.tar` file are as rows, by the last suffix of their names."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from runner.core.errors import InputError, describe
from runner.data.rows import RAGGED, TEXT, Column, RowType
from runner.sources import check_dtype
from runner.sources.tables.text_rows import text_rows

KINDS = ("txt", "json", "cls", "npy")  # beside images
_TRIED = 100


class Field(Protocol):
    """A field of all samples; `row_bytes` is what one takes on average."""

    @property
    def row_type(self) -> RowType: ...
    @property
    def row_bytes(self) -> int: ...

    def read(self, start: int, stop: int) -> Column:
        """Of the samples `start..stop`.

        Raises:
            InputError: it cannot be read; of several the first.
        """
        ...


@dataclass(frozen=True)
class TextField:
    """Text as it is.

    Args:
        load: the content of a row's member.
        name: what a row is called in messages.
        row_bytes: on average.
    """

    load: Callable[[int], bytes]
    name: Callable[[int], str]
    row_bytes: int

    @property
    def row_type(self) -> RowType:
        return RowType(RAGGED, TEXT)

    def read(self, start: int, stop: int) -> Column:
        return text_rows([self.load(row) for row in range(start, stop)], start, self.name)


@dataclass(frozen=True)
class ClassField:
    """One whole number, int64; as for `TextField`."""

    load: Callable[[int], bytes]
    name: Callable[[int], str]

    @property
    def row_type(self) -> RowType:
        return RowType((), np.dtype(np.int64))

    @property
    def row_bytes(self) -> int:
        return self.row_type.row_bytes

    def read(self, start: int, stop: int) -> Column:
        return np.array([self._number(row) for row in range(start, stop)], np.int64)

    def _number(self, row: int) -> int:
        content = self.load(row)
        try:
            return int(np.int64(int(content)))
        except (ValueError, OverflowError) as error:
            raise InputError(f"{self.name(row)} is no whole number of 64 bits: {content[:20]!r}") from error


class ArrayField:
    """Arrays in `.npy` format, of the shape and dtype of the first that can be read; as for `TextField`.

    Raises:
        InputError: none of the first 100 can be read; a dtype that torch cannot hold.
    """

    def __init__(self, num_rows: int, load: Callable[[int], bytes], name: Callable[[int], str]) -> None:
        self._load, self._name = load, name
        first = self._first(num_rows)
        check_dtype(first.dtype, name(0))
        self.row_type = RowType(first.shape, first.dtype.newbyteorder("="))

    @property
    def row_bytes(self) -> int:
        return self.row_type.row_bytes

    def read(self, start: int, stop: int) -> Column:
        rows = np.empty((stop - start, *self.row_type.shape), self.row_type.dtype)
        for row in range(start, stop):
            found = self._array(row)
            if (found.shape, found.dtype.newbyteorder("=")) != (self.row_type.shape, self.row_type.dtype):
                raise InputError(
                    f"{self._name(row)} is {found.dtype} {found.shape}, not {self.row_type} as those before it"
                )
            rows[row - start] = found
        return rows

    def _array(self, row: int) -> np.ndarray[Any, Any]:
        try:
            found: np.ndarray[Any, Any] = np.lib.format.read_array(io.BytesIO(self._load(row)), allow_pickle=False)
        except InputError:
            raise
        except Exception as error:  # damaged bytes raise one of many kinds
            raise InputError(f"{self._name(row)} is not in .npy format: {describe(error)}") from error
        return found

    def _first(self, num_rows: int) -> np.ndarray[Any, Any]:
        first_error = None
        for row in range(min(num_rows, _TRIED)):
            try:
                return self._array(row)
            except InputError as error:
                first_error = first_error or error
        assert first_error is not None
        raise first_error
