"""Arrow columns as rows: numbers, lists of numbers of fixed or variable length, and text."""

from typing import Any

import numpy as np

from runner.core.errors import InputError, UsageError
from runner.core.text import row_range
from runner.data.rows import RAGGED, TEXT, Column, Ragged, Rows, RowType, RowTypes
from runner.sources.base import DataSpec, check_dtype


class ArrowColumns:
    """Selected columns of a table.

    Args:
        schema: schema of the table.
        spec: the columns to read, and the data set for messages.

    Attributes:
        names: names of the columns, in order.
        row_type: type of the only column; by name where there are several.

    Raises:
        InputError: there is no such column, or its type is neither numbers, lists of them, nor text.
        UsageError: a column is requested twice, by `::` and by --columns.
    """

    def __init__(self, schema: Any, spec: DataSpec) -> None:
        self._what = spec.what
        if spec.inner and spec.columns:
            raise UsageError(f"{spec.what}: --columns and ::{spec.inner} cannot be combined")
        self.names = spec.choose(schema.names)
        self._types = {name: self._type(schema.field(name).type, name) for name in self.names}
        self.row_type: RowTypes = self._types[self.names[0]] if len(self.names) == 1 else self._types

    def rows(self, table: Any, first: int) -> Rows:
        """Convert a table to rows.

        Args:
            table: table with columns of these names and types.
            first: number of its first row, for messages.

        Raises:
            InputError: it contains a null.
        """
        columns = {name: self._column(table.column(name), name, first) for name in self.names}
        return columns[self.names[0]] if len(self.names) == 1 else columns

    def _type(self, kind: Any, name: str) -> RowType:
        import pyarrow as pa

        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return RowType(RAGGED, TEXT)
        shape: tuple[int, ...] = ()
        while pa.types.is_fixed_size_list(kind):
            shape = (*shape, kind.list_size)
            kind = kind.value_type
        if not shape and (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
            shape = RAGGED
            kind = kind.value_type
        try:
            dtype: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
        except NotImplementedError:
            dtype = np.dtype(object)
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise InputError(
                f"{self._what}: column {name!r} is of type {kind}; rows must be numbers, lists of them, or text. "
                "Choose other columns with --columns"
            )
        check_dtype(dtype, f"{self._what}, column {name},")
        return RowType(shape, dtype)

    def _column(self, chunked: Any, name: str, first: int) -> Column:
        import pyarrow as pa

        column = pa.concat_arrays(chunked.chunks) if chunked.num_chunks else pa.array([], chunked.type)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if column.null_count:
            where = first + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            raise InputError(f"{self._what}: row {where} of column {name!r} is null")
        row_type = self._types[name]
        if row_type.dtype == TEXT:
            column = column.cast(pa.large_string())
            offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
            data = column.buffers()[2]
            values = np.frombuffer(data, TEXT)[offsets[0] : offsets[-1]] if data and len(column) else np.empty(0, TEXT)
            return Ragged(values.copy(), offsets - offsets[0])
        values = column
        for _ in row_type.shape:
            values = values.flatten()
        if values.null_count:
            raise InputError(
                f"{self._what}: a value of column {name!r} in {row_range(first, first + len(column))} is null"
            )
        numbers = np.array(values.to_numpy(zero_copy_only=False), row_type.dtype)
        if row_type.shape != RAGGED:
            return numbers.reshape(len(column), *row_type.shape)
        lengths = column.value_lengths().to_numpy(zero_copy_only=False)
        return Ragged(numbers, np.cumsum([0, *lengths], dtype=np.int64))
