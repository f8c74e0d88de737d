"""Predictions in a Parquet file, written by pyarrow."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from runner.data.columns import Columns
from runner.data.rows import TEXT, Column, Ragged, RowType

_GROUP_BYTES = 32 << 20  # size of a row group: small enough for random access, large enough to compress


class ParquetWriter:
    """A writer of columns of numbers, lists of fixed length (nested for several axes), variable-length lists, and text.

    Args:
        path: path of the file.
        types: types of its columns.
        num_rows: number of rows that it will hold.
    """

    @staticmethod
    def check(output: str, types: Mapping[str, RowType]) -> None:
        """Raise UsageError where pyarrow is missing."""
        import pyarrow  # noqa: F401 - a missing library is reported here

    def __init__(self, path: str, types: Mapping[str, RowType], num_rows: int) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self._pa = pa
        self._types = types
        self._schema = pa.schema([(name, self._type(row_type)) for name, row_type in types.items()])
        self._file = parquet.ParquetWriter(path, self._schema)
        self._waiting: list[Any] = []

    def write(self, columns: Columns) -> None:
        arrays = [self._array(columns[name], row_type) for name, row_type in self._types.items()]
        self._waiting.append(self._pa.Table.from_arrays(arrays, schema=self._schema))
        if sum(table.nbytes for table in self._waiting) >= _GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._waiting:
            table = self._pa.concat_tables(self._waiting)
            self._file.write_table(table, row_group_size=max(1, len(table)))
            self._waiting = []

    def _type(self, row_type: RowType) -> Any:
        if row_type.dtype == TEXT:
            return self._pa.string()
        kind = self._pa.from_numpy_dtype(row_type.dtype)
        for length in reversed(row_type.shape):
            kind = self._pa.list_(kind) if length == -1 else self._pa.list_(kind, length)
        return kind

    def _array(self, column: Column, row_type: RowType) -> Any:
        pa = self._pa
        kind = self._type(row_type)
        if isinstance(column, Ragged):
            if row_type.dtype == TEXT:
                buffers = [None, pa.py_buffer(column.offsets), pa.py_buffer(column.values.tobytes())]
                return pa.Array.from_buffers(pa.large_string(), len(column), buffers).cast(kind)
            inner = self._array(column.values, RowType(row_type.shape[1:], row_type.dtype))
            return pa.LargeListArray.from_arrays(pa.array(column.offsets), inner).cast(kind)
        values = pa.array(np.ascontiguousarray(column).reshape(-1))
        for length in reversed(row_type.shape):
            values = pa.FixedSizeListArray.from_arrays(values, length)
        return values
