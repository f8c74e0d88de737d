"""Predictions in a CSV file, written by pyarrow: a column for each number of a vector."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from runner.core.errors import UsageError
from runner.data.cell_types import arrow_type, cell_name
from runner.data.cells import from_cells, json_values
from runner.data.columns import Columns
from runner.data.rows import TEXT, Ragged, RowType, texts_of


class CsvWriter:
    """A writer of a header and a line per row; a vector column `name` becomes columns `name_0`, `name_1` and so on.

    Args:
        path: path of the file; columns are separated by tabs where the output is a `.tsv` file.
        types: types of its columns.
        num_rows: number of rows that it will hold.
    """

    @staticmethod
    def check(output: str, types: Mapping[str, RowType]) -> None:
        """Raise UsageError where pyarrow is missing, or CSV cannot hold a column."""
        import pyarrow  # noqa: F401 - a missing library is reported here

        for name, row_type in types.items():
            is_one = row_type.dtype == TEXT or cell_name(row_type.dtype)
            if row_type.dtype.kind == "c":
                raise UsageError(
                    f"--output {output}: CSV cannot hold {name!r}, {row_type} per row. Give its real and imaginary "
                    "parts with --postprocess (torch.view_as_real), or write .npy"
                )
            if (row_type.is_ragged and not is_one) or len(row_type.shape) > 1:
                raise UsageError(
                    f"--output {output}: CSV cannot hold {name!r}, {row_type} per row; .parquet and .jsonl can"
                )

    def __init__(self, path: str, types: Mapping[str, RowType], num_rows: int) -> None:
        import pyarrow as pa
        from pyarrow import csv

        self._pa = pa
        self._types = types
        fields = []
        for name, row_type in types.items():
            if row_type.is_ragged:
                is_cell = cell_name(row_type.dtype)
                fields.append((name, _stored_type(arrow_type(row_type.dtype)) if is_cell else pa.string()))
                continue
            kind = pa.from_numpy_dtype(_wide(row_type.dtype))
            width = row_type.shape[0] if row_type.shape else 0
            fields += [(f"{name}_{index}", kind) for index in range(width)] if width else [(name, kind)]
        self._schema = pa.schema(fields)
        delimiter = "\t" if ".tsv" in os.path.basename(path) else ","
        # a null beside it is nothing, and so is NaN then; alone in a line, nothing would be no row
        missing = "" if any(cell_name(row_type.dtype) for row_type in types.values()) else "NaN"
        options = csv.WriteOptions(delimiter=delimiter, null_string=missing)
        self._file = csv.CSVWriter(path, self._schema, write_options=options)

    def write(self, columns: Columns) -> None:
        arrays = []
        for name in self._types:
            column = columns[name]
            if isinstance(column, Ragged) and cell_name(column.values.dtype):
                arrays.append(_stored(column))
                continue
            if isinstance(column, Ragged):
                arrays.append(self._pa.array(texts_of(column), self._pa.string()))
                continue
            parts = [column] if column.ndim == 1 else [column[:, index] for index in range(column.shape[1])]
            arrays += [self._pa.array(np.ascontiguousarray(p, _wide(p.dtype)), from_pandas=True) for p in parts]
        self._file.write_table(self._pa.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        self._file.close()


def _wide(dtype: "np.dtype[np.generic]") -> "np.dtype[np.generic]":
    """Return a dtype that pyarrow can write: half precision becomes single."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _stored_type(kind: Any) -> Any:
    """Return the Arrow type in which cells are written: their own where CSV has a form for it, else text."""
    import pyarrow as pa

    types = pa.types
    is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind)
    return kind if is_number else pa.string()


def _stored(cells: Ragged) -> Any:
    import pyarrow as pa

    array = from_cells(cells)
    kind = _stored_type(array.type)
    if pa.types.is_floating(kind):
        return pa.array(array.to_numpy(zero_copy_only=False), kind, from_pandas=True)
    if kind == array.type:
        return array
    is_text = pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type)
    if is_text or (pa.types.is_temporal(array.type) and not pa.types.is_duration(array.type)):
        return array.cast(kind)
    texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in json_values(cells)]
    return pa.array(texts, kind)
