"""Rows in memory: an array whose first axis they are, rows of unlike lengths, or several columns of these. Pure."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from runner.checksum import checksum, checksum_of_text

RAGGED = (-1,)  # the shape of rows of unlike lengths
TEXT = np.dtype("S1")  # of the bytes of text, in UTF-8
_LEAST_FILLED = 0.8  # more makes many small batches; 0.9 twice as many of log-normal lengths, for 5 % less padding


@dataclass(frozen=True)
class RowType:
    """The shape and dtype of one row; RAGGED where rows are 1-D of unlike lengths, and of dtype TEXT where text."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return "text" if self.dtype == TEXT else f"{self.dtype} {self.shape}"

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, where all have the same."""
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Ragged:
    """Rows of unlike lengths.

    Attributes:
        values: 1-D, one row after another; of dtype TEXT the bytes of text.
        offsets: 1-D int64, where each row begins, and the end of the last.
    """

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Of each row."""
        return np.diff(self.offsets)


Column = np.ndarray | Ragged
Rows = Column | dict[str, Column]
RowTypes = RowType | Mapping[str, RowType]
Batch = torch.Tensor | list[torch.Tensor] | list[str]


def ragged(parts: Sequence[np.ndarray], dtype: np.dtype[Any]) -> Ragged:
    """Rows of these 1-D arrays."""
    offsets = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    return Ragged(np.concatenate([np.empty(0, dtype), *parts]).astype(dtype, copy=False), offsets)


def ragged_text(texts: Sequence[str]) -> Ragged:
    """Rows of text."""
    return ragged([np.frombuffer(text.encode(), TEXT) for text in texts], TEXT)


def num_rows_of(rows: Rows) -> int:
    """How many rows there are."""
    return len(next(iter(rows.values()))) if isinstance(rows, dict) else len(rows)


def dtype_to_json(dtype: np.dtype[Any]) -> Any:
    """A dtype as JSON can hold it: `numpy.lib.format`'s description, a list where it has fields."""
    return np.lib.format.dtype_to_descr(dtype)


def dtype_from_json(description: Any) -> np.dtype[Any]:
    """The dtype of a description that has been through JSON; raises TypeError or ValueError where it is none."""
    if isinstance(description, list):
        description = [tuple(tuple(item) if isinstance(item, list) else item for item in f) for f in description]
    found: np.dtype[Any] = np.dtype(description)
    return found


def take(rows: Rows, indices: Sequence[int] | np.ndarray) -> Rows:
    """Some of the rows, in the order asked for, in memory of their own."""
    if isinstance(rows, dict):
        return {name: take_column(column, indices) for name, column in rows.items()}
    return take_column(rows, indices)


def take_column(column: Column, indices: Sequence[int] | np.ndarray) -> Column:
    """The same of one column."""
    if isinstance(column, np.ndarray):
        return column[np.asarray(indices, np.int64)]
    bounds = [(int(column.offsets[index]), int(column.offsets[index + 1])) for index in indices]
    return ragged([column.values[first:last] for first, last in bounds], column.values.dtype)


def concatenate(parts: Sequence[Rows]) -> Rows:
    """All rows of the parts, at least one, which are of one kind."""
    if isinstance(parts[0], dict):
        columns = [part for part in parts if isinstance(part, dict)]
        return {name: concatenate_columns([part[name] for part in columns]) for name in parts[0]}
    return concatenate_columns([part for part in parts if not isinstance(part, dict)])


def concatenate_columns(parts: Sequence[Column]) -> Column:
    """The same of one column."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate([part for part in parts if isinstance(part, np.ndarray)])
    several = [part for part in parts if isinstance(part, Ragged)]
    lengths = np.concatenate([part.lengths for part in several])
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    return Ragged(np.concatenate([part.values for part in several]), offsets)


def zero_row(row_type: RowTypes) -> Rows:
    """One row of zeros, of one number or an empty text where rows are of unlike lengths."""
    if isinstance(row_type, RowType):
        return _zero_row(row_type)
    return {name: _zero_row(column) for name, column in row_type.items()}


def is_ragged(row_type: RowTypes) -> bool:
    """Whether rows, or a column of them, are of unlike lengths."""
    types = [row_type] if isinstance(row_type, RowType) else row_type.values()
    return any(found.shape == RAGGED for found in types)


def lengths_of(rows: Rows) -> np.ndarray | None:
    """Of each row, of its longest column; None where all are of one length."""
    columns = rows.values() if isinstance(rows, dict) else [rows]
    lengths = [column.lengths for column in columns if isinstance(column, Ragged)]
    longest: np.ndarray | None = np.max(lengths, axis=0) if lengths else None
    return longest


def cuts_by_length(lengths: np.ndarray) -> list[int]:
    """Where to cut rows that are in order of length, so that at most a fifth of any of them is padding.

    Args:
        lengths: of the rows, the longest first.

    Returns:
        The positions of the first rows of all parts but the first.
    """
    cuts, longest = [], lengths[:1].max(initial=0)
    for position, length in enumerate(lengths.tolist()):
        if length < _LEAST_FILLED * longest:
            cuts.append(position)
            longest = length
    return cuts


def rows_checksum(rows: Rows) -> str:
    """The checksum of rows."""
    if isinstance(rows, dict):
        return checksum_of_text(" ".join(f"{name} {rows_checksum(column)}" for name, column in rows.items()))
    if isinstance(rows, np.ndarray):
        return checksum(rows)
    return checksum_of_text(f"{checksum(rows.values)} {checksum(rows.lengths)}")


def as_batch(rows: Rows) -> Batch | dict[str, Batch]:
    """Rows for PyTorch: a tensor, a list of 1-D tensors or of strings; a dict of these where there are columns.

    Raises:
        UnicodeDecodeError: text is not UTF-8.
    """
    if isinstance(rows, dict):
        return {name: _as_batch(column) for name, column in rows.items()}
    if isinstance(rows, np.ndarray) and rows.dtype.names is not None:
        return {name: torch.from_numpy(rows[name].copy()) for name in rows.dtype.names}
    return _as_batch(rows)


def _as_batch(column: Column) -> Batch:
    if isinstance(column, np.ndarray):
        return torch.from_numpy(column)
    if column.values.dtype == TEXT:
        text, bounds = column.values.tobytes(), column.offsets.tolist()
        return [text[first:last].decode() for first, last in itertools.pairwise(bounds)]
    return list(torch.split(torch.from_numpy(column.values), column.lengths.tolist()))


def is_text(column: Batch) -> bool:
    """Whether rows of unlike lengths are text."""
    return isinstance(column, list) and bool(column) and isinstance(column[0], str)


def pad(batch: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of unlike lengths as one tensor `(batch, longest)`, filled up with 0, and a bool mask, True at its rows."""
    lengths = torch.tensor([len(row) for row in batch])
    padded = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]


def span(ids: Sequence[int]) -> tuple[int, int]:
    """The smallest `(first, last)` range that holds these rows; at once where they are one."""
    return (ids.start, ids.stop) if isinstance(ids, range) else (min(ids), max(ids) + 1)


def name_rows(ids: Sequence[int]) -> str:
    """Some rows of the data set, in words."""
    first, last = span(ids)
    if len(ids) == 1:
        return f"row {first}"
    return f"rows {first}..{last}" if last - first == len(ids) else f"{len(ids)} of the rows {first}..{last}"


def _zero_row(row_type: RowType) -> Column:
    if row_type.shape == RAGGED:
        length = 0 if row_type.dtype == TEXT else 1
        return Ragged(np.zeros(length, row_type.dtype), np.array([0, length]))
    return np.zeros((1, *row_type.shape), row_type.dtype)
