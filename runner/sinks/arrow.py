"""Predictions as Arrow tables: what the writers of Parquet and of Feather have in common."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from runner.core.errors import UsageError
from runner.data.cell_types import arrow_type, cell_name
from runner.data.cells import from_cells
from runner.data.columns import Columns
from runner.data.rows import TEXT, Column, Ragged, RowType

_GROUP_BYTES = 32 << 20  # size of a group of rows: small enough for random access, large enough to compress
_MOST_GROUP_BYTES = 128 << 20  # of a group, where a chunk of rows alone is larger than that; readers hold a group


class TableWriter:
    """A writer of columns of numbers, lists of fixed length (nested for several axes), variable-length lists, and text.

    Args:
        path: path of the file.
        types: types of its columns.
        num_rows: number of rows that it will hold.
        attributes: origin of the predictions, for the metadata of the file.

    Attributes:
        format_name: the format, for messages.
    """

    format_name: ClassVar[str]

    @classmethod
    def check(cls, output: str, types: Mapping[str, RowType]) -> None:
        """Raise UsageError where pyarrow is missing, or the format cannot hold a column."""
        import pyarrow as pa

        for name, row_type in types.items():
            if 0 in row_type.shape:  # Arrow divides by the length of lists, and the process ends
                raise UsageError(
                    f"--output {output}: {cls.format_name} cannot hold {name!r}, {row_type} per row, which has no "
                    "values. Leave it out with --postprocess, or write .npy or .jsonl"
                )
            try:
                cls.try_schema(pa.schema([_field(name, row_type)]))
            except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
                ways = "" if row_type.dtype.kind == "c" else "; .jsonl and .csv can"
                parts = ". Give its real and imaginary parts with --postprocess (torch.view_as_real), or write .npy"
                raise UsageError(
                    f"--output {output}: {cls.format_name} cannot hold {name!r}, {row_type} per row{ways or parts}"
                ) from error

    def __init__(
        self, path: str, types: Mapping[str, RowType], num_rows: int, attributes: Mapping[str, str] | None = None
    ) -> None:
        import pyarrow as pa

        self._pa = pa
        self._types = types
        self._schema = pa.schema([_field(name, row_type) for name, row_type in types.items()], dict(attributes or {}))
        self._waiting: list[Any] = []
        self._waiting_bytes = 0
        self.open(path, self._schema)

    def write(self, columns: Columns) -> None:
        arrays = [self._array(columns[name], row_type) for name, row_type in self._types.items()]
        self._waiting.append(self._pa.Table.from_arrays(arrays, schema=self._schema))
        self._waiting_bytes += self._waiting[-1].nbytes
        if self._waiting_bytes >= _GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self.finish()

    @staticmethod
    def try_schema(schema: Any) -> None:
        """Raise an Arrow exception where the format cannot hold a schema."""
        raise NotImplementedError

    def open(self, path: str, schema: Any) -> None:
        """Begin the file."""
        raise NotImplementedError

    def put(self, table: Any) -> None:
        """Write a group of rows."""
        raise NotImplementedError

    def finish(self) -> None:
        """End the file."""
        raise NotImplementedError

    def _flush(self) -> None:
        if self._waiting:
            self._put_in_groups(self._pa.concat_tables(self._waiting))
            self._waiting = []
            self._waiting_bytes = 0

    def _put_in_groups(self, table: Any) -> None:
        if table.nbytes <= _MOST_GROUP_BYTES or len(table) == 1:
            self.put(table)
            return
        half = len(table) // 2
        self._put_in_groups(table[:half])
        self._put_in_groups(table[half:])

    def _array(self, column: Column, row_type: RowType) -> Any:
        pa = self._pa
        kind = _arrow_type(row_type)
        if isinstance(column, Ragged):
            if cell_name(row_type.dtype):
                return from_cells(column)
            if row_type.dtype == TEXT:
                buffers = [None, pa.py_buffer(column.offsets), pa.py_buffer(column.values.tobytes())]
                return pa.Array.from_buffers(pa.large_string(), len(column), buffers).cast(kind)
            inner = self._array(column.values, RowType(row_type.shape[1:], row_type.dtype))
            return pa.LargeListArray.from_arrays(pa.array(column.offsets), inner).cast(kind)
        values = pa.array(np.ascontiguousarray(column, _wide(column.dtype)).reshape(-1))
        for length in reversed(row_type.shape):
            values = pa.FixedSizeListArray.from_arrays(values, type=_list_of(values.type, length))
        return values


def _field(name: str, row_type: RowType) -> Any:
    """Return the field of a column; only passthrough columns have null."""
    import pyarrow as pa

    return pa.field(name, _arrow_type(row_type), nullable=bool(cell_name(row_type.dtype)))


def _arrow_type(row_type: RowType) -> Any:
    import pyarrow as pa

    if row_type.dtype == TEXT:
        return pa.string()
    if cell_name(row_type.dtype):
        return arrow_type(row_type.dtype)
    kind = pa.from_numpy_dtype(_wide(row_type.dtype))
    for length in reversed(row_type.shape):
        kind = _list_of(kind, length)
    return kind


def _list_of(kind: Any, length: int) -> Any:
    """Return the type of lists of a length, or of any length where it is -1, without null in them."""
    import pyarrow as pa

    return pa.list_(pa.field("item", kind, nullable=False), length)


def _wide(dtype: "np.dtype[Any]") -> "np.dtype[Any]":
    """Return the dtype in which numbers are stored: Spark opens no Parquet file with half precision."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype
