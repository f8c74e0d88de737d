"""Rows in memory: an array with the rows along its first axis, variable-length rows, or several columns of these."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runner.core.checksum import checksum, checksum_of_text
from runner.core.text import row_range
from runner.data.cell_types import cell_name
from runner.data.gather import gather

RAGGED = (-1,)  # the shape of rows of unlike lengths
TEXT = np.dtype("S1")  # of the bytes of text, in UTF-8
FILE = np.dtype("V1")  # of the bytes of a file, which is one thing, whatever its length
_GUESSED_LENGTH = 64
_BLACK_PIXEL = bytes.fromhex(  # an image file in BMP format, 1x1
    "424d3a0000000000000036000000280000000100000001000000010018000000000004000000000000000000000000000000000000000000"
    "0000"
)
_NAMES = {TEXT: "text", FILE: "a file"}


@dataclass(frozen=True)
class RowType:
    """Shape and dtype of one row.

    Variable-length rows have -1 as the first number of their shape; text is RAGGED, of dtype TEXT, files are RAGGED, of
    dtype FILE.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return _NAMES.get(self.dtype) or cell_name(self.dtype) or f"{self.dtype} {self.shape}"

    @property
    def key(self) -> str:
        """The type as records and checksums hold it: never to be changed, or no run that is under way can resume."""
        return {TEXT: "text", FILE: "a file"}.get(self.dtype) or cell_name(self.dtype) or f"{self.dtype} {self.shape}"

    @property
    def is_ragged(self) -> bool:
        """Whether rows are of variable length."""
        return self.shape[:1] == RAGGED

    @property
    def row_bytes(self) -> int:
        """The bytes of one row; a guess where rows are of variable length."""
        shape = (_GUESSED_LENGTH, *self.shape[1:]) if self.is_ragged else self.shape
        return self.dtype.itemsize * int(np.prod(shape, dtype=np.int64))


@dataclass(frozen=True)
class Ragged:
    """Variable-length rows.

    Attributes:
        values: one row after another, along the first axis; with dtype TEXT the bytes of text.
        offsets: 1-D int64, `(n + 1,)`, the start of each row in `values`, and the end of the last.
    """

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """The length of each row, 1-D int64."""
        return np.diff(self.offsets)


Column = np.ndarray | Ragged
Rows = Column | dict[str, Column]
RowTypes = RowType | Mapping[str, RowType]


def ragged(parts: Sequence[np.ndarray], dtype: np.dtype[Any]) -> Ragged:
    """Make variable-length rows from arrays whose shapes differ in the first axis only."""
    offsets = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    tail = parts[0].shape[1:] if parts else ()
    return Ragged(np.concatenate([np.empty((0, *tail), dtype), *parts]).astype(dtype, copy=False), offsets)


def ragged_text(texts: Sequence[str]) -> Ragged:
    """Make rows of text from strings."""
    encoded = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return Ragged(np.frombuffer(b"".join(encoded), TEXT), offsets)


def texts_of(column: Ragged) -> list[str]:
    """Return rows of text as strings; raise UnicodeDecodeError if they are not UTF-8."""
    text = column.values.tobytes()
    bounds = column.offsets.tolist()
    return [text[first:last].decode() for first, last in itertools.pairwise(bounds)]


def num_rows_of(rows: Rows) -> int:
    """Return the number of rows."""
    return len(next(iter(rows.values()))) if isinstance(rows, dict) else len(rows)


def dtype_to_json(dtype: np.dtype[Any]) -> Any:
    """Return a dtype in a form for JSON: the description of `numpy.lib.format`, a list if it has fields."""
    return np.lib.format.dtype_to_descr(dtype)


def dtype_from_json(description: Any) -> np.dtype[Any]:
    """Return the dtype of a description that was read from JSON; raise TypeError or ValueError if it is none."""
    if isinstance(description, list):
        description = [tuple(tuple(item) if isinstance(item, list) else item for item in f) for f in description]
    dtype: np.dtype[Any] = np.dtype(description)
    return dtype


def take(rows: Rows, indices: Sequence[int] | np.ndarray) -> Rows:
    """Return the rows `indices`, in this order, in memory of their own."""
    if isinstance(rows, dict):
        return {name: take_column(column, indices) for name, column in rows.items()}
    return take_column(rows, indices)


def take_column(column: Column, indices: Sequence[int] | np.ndarray) -> Column:
    """Return the rows `indices` of one column, in memory of their own."""
    if isinstance(column, np.ndarray):
        return column[np.asarray(indices, np.int64)]
    return Ragged(*gather(column.values, column.offsets, indices))


def slice_rows(rows: Rows, start: int, stop: int) -> Rows:
    """Return the rows `start..stop`, in memory of their own."""
    if isinstance(rows, dict):
        return {name: slice_column(column, start, stop) for name, column in rows.items()}
    return slice_column(rows, start, stop)


def slice_column(column: Column, start: int, stop: int) -> Column:
    """Return the rows `start..stop` of one column, in memory of their own."""
    if isinstance(column, np.ndarray):
        return column[start:stop].copy()
    offsets = column.offsets[start : stop + 1]
    return Ragged(column.values[offsets[0] : offsets[-1]].copy(), offsets - offsets[0])


def concatenate(parts: Sequence[Rows]) -> Rows:
    """Concatenate the rows of all parts; at least one part, all of one kind."""
    if isinstance(parts[0], dict):
        columns = [part for part in parts if isinstance(part, dict)]
        return {name: concatenate_columns([part[name] for part in columns]) for name in parts[0]}
    return concatenate_columns([part for part in parts if not isinstance(part, dict)])


def concatenate_columns(parts: Sequence[Column]) -> Column:
    """Concatenate the rows of one column from all parts; see `concatenate`."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate([part for part in parts if isinstance(part, np.ndarray)])
    several = [part for part in parts if isinstance(part, Ragged)]
    lengths = np.concatenate([part.lengths for part in several])
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    return Ragged(np.concatenate([part.values for part in several]), offsets)


def zero_row(row_type: RowTypes) -> Rows:
    """Return one row of zeros; if of variable length, a single zero, an empty text or null; a black image."""
    if isinstance(row_type, RowType):
        return _zero_row(row_type)
    return {name: _zero_row(column) for name, column in row_type.items()}


def describe_type(row_type: RowTypes) -> str:
    """Return a type in words, for messages."""
    if isinstance(row_type, RowType):
        return str(row_type)
    return ", ".join(f"{name}: {column}" for name, column in row_type.items())


def type_key(row_type: RowTypes) -> str:
    """Return the identity of a type; see `RowType.key`."""
    if isinstance(row_type, RowType):
        return row_type.key
    return ", ".join(f"{name}: {column.key}" for name, column in row_type.items())


def named_types(row_type: RowTypes) -> Mapping[str, RowType]:
    """Return the types of columns by name; empty if there is one type without a name."""
    return {} if isinstance(row_type, RowType) else row_type


def row_bytes_of(row_type: RowTypes) -> int:
    """Return the bytes of one row of all columns; a guess where rows are of variable length."""
    return sum(column.row_bytes for column in ([row_type] if isinstance(row_type, RowType) else row_type.values()))


def is_ragged(row_type: RowTypes, ignored: Collection[str] = ()) -> bool:
    """Return whether rows, or one of their columns not ignored, are of variable length, and are batched by it."""
    if isinstance(row_type, RowType):
        return row_type.is_ragged and row_type.dtype != FILE
    return any(is_ragged(column) for name, column in row_type.items() if name not in ignored)


def lengths_of(rows: Rows, ignored: Collection[str] = ()) -> np.ndarray | None:
    """Return the length of each row, in its longest column that is not ignored; None if all are of one length."""
    columns = [c for name, c in rows.items() if name not in ignored] if isinstance(rows, dict) else [rows]
    lengths = [column.lengths for column in columns if isinstance(column, Ragged) and column.values.dtype != FILE]
    longest: np.ndarray | None = np.max(lengths, axis=0) if lengths else None
    return longest


def length_keys(rows: Rows, ignored: Collection[str] = ()) -> np.ndarray:
    """Return a number for each row; equal for rows whose lengths are equal in every column."""
    columns = [c for name, c in rows.items() if name not in ignored] if isinstance(rows, dict) else [rows]
    lengths = np.stack([column.lengths for column in columns if isinstance(column, Ragged)], axis=1)
    keys: np.ndarray = np.unique(lengths, axis=0, return_inverse=True)[1].reshape(-1)
    return keys


def rows_checksum(rows: Rows) -> str:
    """Return the checksum of rows."""
    if isinstance(rows, dict):
        return checksum_of_text(" ".join(f"{name} {rows_checksum(column)}" for name, column in rows.items()))
    if isinstance(rows, np.ndarray):
        return checksum(rows)
    return checksum_of_text(f"{checksum(rows.values)} {checksum(rows.lengths)}")


def span(ids: Sequence[int]) -> tuple[int, int]:
    """Return the smallest `(first, last)` range that holds these rows; fast for a `range`."""
    return (ids.start, ids.stop) if isinstance(ids, range) else (min(ids), max(ids) + 1)


def name_rows(ids: Sequence[int]) -> str:
    """Return words that name some rows of the data set, for messages."""
    first, last = span(ids)
    named = row_range(first, last)
    return named if last - first == len(ids) else f"{len(ids)} of the {named}"


def _zero_row(row_type: RowType) -> Column:
    if row_type.dtype == FILE:
        return ragged([np.frombuffer(_BLACK_PIXEL, FILE)], FILE)
    if row_type.is_ragged:
        length = 0 if row_type.dtype == TEXT or cell_name(row_type.dtype) else 1
        return Ragged(np.zeros((length, *row_type.shape[1:]), row_type.dtype), np.array([0, length]))
    return np.zeros((1, *row_type.shape), row_type.dtype)
