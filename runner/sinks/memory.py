"""Predictions in rank 0's memory, for callers from Python without an output file."""

from typing import Any

import numpy as np

from runner.data.columns import Columns, unpack
from runner.data.rows import TEXT, Ragged, RowType, RowTypes, concatenate_columns, texts_of


class MemorySink:
    """All rows, in the order of the data.

    Args:
        num_rows: number of rows.
        row_type: row type of the predictions.
    """

    def __init__(self, num_rows: int, row_type: RowTypes) -> None:
        self._num_rows = num_rows
        self._row_type = row_type
        self._rows = np.empty(0)
        self._chunks: dict[int, np.ndarray] = {}
        if isinstance(row_type, RowType):
            self._rows = np.empty((num_rows, *row_type.shape), row_type.dtype)

    def write(self, start: int, rows: np.ndarray) -> None:
        if isinstance(self._row_type, RowType):
            self._rows[start : start + len(rows)] = rows
        else:
            self._chunks[start] = rows.copy()

    def read(self, start: int, stop: int) -> np.ndarray:
        return self._rows[start:stop] if isinstance(self._row_type, RowType) else self._chunks[start]

    def predictions(self) -> Any:
        """Return an array `(num_rows, ...)`; for variable-length rows a dict of columns, with lists for these."""
        if isinstance(self._row_type, RowType):
            return self._rows
        starts = sorted(self._chunks)
        ends = [*starts[1:], self._num_rows]
        chunks: list[Columns] = [
            unpack(self._chunks[start], self._row_type, end - start) for start, end in zip(starts, ends, strict=True)
        ]
        predictions: dict[str, Any] = {}
        for name in self._row_type if chunks else ():
            column = concatenate_columns([chunk[name] for chunk in chunks])
            predictions[name] = column
            if isinstance(column, Ragged):
                is_text = column.values.dtype == TEXT
                predictions[name] = texts_of(column) if is_text else np.split(column.values, column.offsets[1:-1])
        return predictions

    def sync(self) -> None:
        pass

    def complete(self) -> str:
        return ""

    def finish(self) -> None:
        pass

    def discard(self) -> None:
        pass

    def close(self) -> None:
        pass
