"""Passthrough columns of rows that cannot be read whole, such as a line of a table with one bad cell."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from runner.core.errors import RunnerError
from runner.data.cell_types import cell_name
from runner.data.columns import Columns, fill
from runner.data.json_cells import json_values
from runner.data.rows import TEXT, Column, Ragged, RowType, concatenate_columns, zero_row
from runner.sources import Source

Unread = Mapping[int, Collection[str]]
"""Names of the passthrough columns whose value cannot be read, by row."""


class KeptReader:
    """Reader of passthrough columns, row by row and each column by itself; made by every rank that computes.

    Args:
        types: type of each of these columns.
        open_column: opens the data set with one column alone; it may raise a RunnerError.
    """

    def __init__(self, types: Mapping[str, RowType], open_column: Callable[[str], Source]) -> None:
        self._types = types
        self._open_column = open_column
        self._sources: dict[str, Source | None] = {}

    def read(self, source: Source, ids: Sequence[int]) -> tuple[Columns, Unread]:
        """Return the passthrough columns of rows that cannot be read together, and what of them cannot be read at all.

        Args:
            source: the data set with all columns; what it can read is taken from it.
            ids: numbers of the rows. A value that cannot be read in any way becomes null, or the fill value
                in outputs without null.
        """
        rows = [self._row(source, row) for row in ids]
        unread = {
            row: {name for name, value in values.items() if value is None}
            for row, values in zip(ids, rows, strict=True)
        }
        return {name: self._column(name, [row[name] for row in rows]) for name in self._types}, unread

    def _row(self, source: Source, row: int) -> dict[str, Column | None]:
        try:
            rows = source.read(row, row + 1)
        except RunnerError:
            return {name: self._value(name, row) for name in self._types}
        assert isinstance(rows, dict)
        return {name: rows[name] for name in self._types}

    def _value(self, name: str, row: int) -> Column | None:
        if name not in self._sources:
            self._sources[name] = self._open(name)
        try:
            if source := self._sources[name]:
                value = source.read(row, row + 1)
                return value[name] if isinstance(value, dict) else value
        except RunnerError:
            pass
        return None

    def _column(self, name: str, values: Sequence[Column | None]) -> Column:
        nothing = zero_row(self._types[name])
        assert not isinstance(nothing, dict)
        return concatenate_columns([fill(nothing, [0]) if value is None else value for value in values])

    def _open(self, name: str) -> Source | None:
        """Open the data set with one column; None where that gives other values than with all columns."""
        try:
            source = self._open_column(name)
        except RunnerError:
            return None
        own_type = source.row_type
        is_same = (own_type if isinstance(own_type, RowType) else own_type.get(name)) == self._types[name]
        return source if is_same else None


def as_json(columns: Columns, row: int, unread: Collection[str]) -> dict[str, Any]:
    """Return the values of one row as JSON has them, by column; None for those that could not be read."""
    return {name: None if name in unread else _plain(column, row) for name, column in columns.items()}


def _plain(column: Column, row: int) -> Any:
    if isinstance(column, Ragged) and cell_name(column.values.dtype):
        first, last = column.offsets[row : row + 2]
        return json_values(Ragged(column.values[first:last], np.array([0, last - first])))[0]
    if isinstance(column, Ragged):
        values = column.values[column.offsets[row] : column.offsets[row + 1]]
        return values.tobytes().decode(errors="replace") if values.dtype == TEXT else values.tolist()
    value = np.asarray(column[row])
    return repr(value.tolist()) if value.dtype.kind in "cSV" else value.tolist()
