"""Predictions of several columns, and their form as bytes, in which variable-length rows travel and are checked.

The bytes hold one column after another: the values of a column of fixed shape; the lengths (int64), then the values, of
a variable-length one. The reader of the bytes must know types and number of rows.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from runner.core.checksum import as_bytes
from runner.data.finite import nonfinite_rows
from runner.data.rows import TEXT, Column, Ragged, RowType, RowTypes, ragged

Columns = dict[str, Column]
UNNAMED = "predictions"  # the name of a single output, where it needs one


def types_by_name(row_type: RowTypes) -> dict[str, RowType]:
    """Return the type of each column by name; a single unnamed column gets the name `UNNAMED`."""
    if not isinstance(row_type, RowType):
        return dict(row_type)
    if row_type.dtype.fields is None:
        return {UNNAMED: row_type}
    dtypes = {name: field[0] for name, field in row_type.dtype.fields.items()}
    return {name: RowType(dtype.shape, dtype.base) for name, dtype in dtypes.items()}


def joined(types: Mapping[str, RowType]) -> RowTypes:
    """Return one type with a field for each column if all are of fixed shape; otherwise the types by name."""
    if any(row_type.is_ragged for row_type in types.values()):
        return dict(types)
    return RowType((), np.dtype([(name, row_type.dtype, row_type.shape) for name, row_type in types.items()]))


def pack(columns: Columns) -> np.ndarray:
    """Return the columns packed as bytes, 1-D uint8."""
    parts: list[np.ndarray] = []
    for column in columns.values():
        if isinstance(column, Ragged):
            parts += [column.lengths.astype(np.int64), np.ascontiguousarray(column.values)]
        else:
            parts.append(np.ascontiguousarray(column))
    return np.concatenate([np.frombuffer(as_bytes(part), np.uint8) for part in parts])


def unpack(packed: np.ndarray, types: Mapping[str, RowType], num_rows: int) -> Columns:
    """Return the columns in packed bytes, see `pack`, in memory of their own."""
    columns: Columns = {}
    position = 0

    def read(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        nonlocal position
        size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        column = packed[position : position + size].copy().view(dtype).reshape(shape)  # aligned, as libraries need it
        position += size
        return column

    for name, row_type in types.items():
        if row_type.is_ragged:
            lengths = read((num_rows,), np.dtype(np.int64))
            offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
            columns[name] = Ragged(read((int(offsets[-1]), *row_type.shape[1:]), row_type.dtype), offsets)
        else:
            columns[name] = read((num_rows, *row_type.shape), row_type.dtype)
    assert position == len(packed), (position, len(packed))
    return columns


def fill(column: Column, indices: Sequence[int]) -> Column:
    """Return a column with fill values at some rows: NaN, -1, the largest unsigned number, False; or an empty row."""
    if not indices:
        return column
    if isinstance(column, Ragged):
        gaps = set(indices)
        bounds = zip(column.offsets[:-1].tolist(), column.offsets[1:].tolist(), strict=True)
        rows = [column.values[a : a if row in gaps else b] for row, (a, b) in enumerate(bounds)]
        return ragged(rows, column.values.dtype)
    for field in [column[name] for name in column.dtype.names] if column.dtype.names else [column]:
        field[list(indices)] = _fill_value(field.dtype)
    return column


def nonfinite(columns: Mapping[str, Column]) -> set[int]:
    """Return the indices of the rows that hold a NaN or an infinity in one of the columns."""
    numbers: set[int] = set()
    for column in columns.values():
        if not isinstance(column, Ragged):
            numbers.update(nonfinite_rows(column))
        elif column.values.dtype != TEXT and (values := nonfinite_rows(column.values)):
            numbers.update((np.searchsorted(column.offsets, values, side="right") - 1).tolist())
    return numbers


def without(columns: Columns, names: Collection[str]) -> Columns:
    """Return the columns except those named."""
    return {name: column for name, column in columns.items() if name not in names}


def _fill_value(dtype: np.dtype[Any]) -> Any:
    if dtype.kind in "fc":
        return np.nan
    if dtype.kind == "u":
        return np.iinfo(dtype).max
    return False if dtype.kind == "b" else -1
