"""Fields of the samples in a `.tar` file as rows; the last suffix of a field's name decides its kind."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from runner.core.errors import InputError, describe
from runner.data.rows import RAGGED, TEXT, Column, RowType
from runner.sources.base import check_dtype
from runner.sources.tables.text_rows import text_rows

TEXTS = ("txt", "text", "transcript", "json", "jsn")
NUMBERS = ("cls", "cls2", "class", "count", "index", "inx", "id")
KINDS = (*TEXTS, *NUMBERS, "npy")  # besides images; as WebDataset decodes them
_TRIED = 100


class Field(Protocol):
    """A field of all samples; `row_bytes` is its average size in bytes."""

    @property
    def row_type(self) -> RowType: ...
    @property
    def row_bytes(self) -> int: ...

    def read(self, start: int, stop: int) -> Column:
        """Read the field of the samples `start..stop`.

        Raises:
            InputError: a sample cannot be read; the first such one.
        """
        ...


@dataclass(frozen=True)
class TextField:
    """A field of text, as it is.

    Args:
        load: returns the content of a row's member.
        name: returns the name of a row for messages.
        row_bytes: average size of a row, in bytes.
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
    """A field with one integer, int64; for arguments see `TextField`."""

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
    """A field of `.npy` arrays, with the shape and dtype of the first readable one; for arguments see `TextField`.

    Raises:
        InputError: none of the first 100 can be read; a dtype that torch cannot hold.
    """

    def __init__(self, num_rows: int, load: Callable[[int], bytes], name: Callable[[int], str]) -> None:
        self._load = load
        self._name = name
        first = self._first(num_rows)
        check_dtype(first.dtype, name(0))
        self.row_type = RowType(first.shape, first.dtype.newbyteorder("="))

    @property
    def row_bytes(self) -> int:
        return self.row_type.row_bytes

    def read(self, start: int, stop: int) -> Column:
        rows = np.empty((stop - start, *self.row_type.shape), self.row_type.dtype)
        for row in range(start, stop):
            array = self._array(row)
            if (array.shape, array.dtype.newbyteorder("=")) != (self.row_type.shape, self.row_type.dtype):
                raise InputError(
                    f"{self._name(row)} is {array.dtype} {array.shape}, not {self.row_type} as those before it"
                )
            rows[row - start] = array
        return rows

    def _array(self, row: int) -> np.ndarray[Any, Any]:
        try:
            array: np.ndarray[Any, Any] = np.lib.format.read_array(io.BytesIO(self._load(row)), allow_pickle=False)
        except InputError:
            raise
        except Exception as error:  # damaged bytes raise one of many exception types
            raise InputError(f"{self._name(row)} is not in .npy format: {describe(error)}") from error
        return array

    def _first(self, num_rows: int) -> np.ndarray[Any, Any]:
        first_error = None
        for row in range(min(num_rows, _TRIED)):
            try:
                return self._array(row)
            except InputError as error:
                first_error = first_error or error
        assert first_error is not None
        raise first_error
