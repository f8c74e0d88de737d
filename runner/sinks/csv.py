"""Predictions in a CSV file, written by pyarrow: a column for each number of a vector."""

import os
from collections.abc import Mapping

import numpy as np

from runner.core.errors import UsageError
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
            if (row_type.is_ragged and row_type.dtype != TEXT) or len(row_type.shape) > 1 or row_type.dtype.kind == "c":
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
            kind = pa.string() if row_type.dtype == TEXT else pa.from_numpy_dtype(_wide(row_type.dtype))
            width = row_type.shape[0] if row_type.shape and row_type.dtype != TEXT else 0
            fields += [(f"{name}_{index}", kind) for index in range(width)] if width else [(name, kind)]
        self._schema = pa.schema(fields)
        delimiter = "\t" if ".tsv" in os.path.basename(path) else ","
        self._file = csv.CSVWriter(path, self._schema, write_options=csv.WriteOptions(delimiter=delimiter))

    def write(self, columns: Columns) -> None:
        arrays = []
        for name in self._types:
            column = columns[name]
            if isinstance(column, Ragged):
                arrays.append(self._pa.array(texts_of(column), self._pa.string()))
                continue
            values = column.astype(_wide(column.dtype), copy=False)
            parts = [values] if values.ndim == 1 else [values[:, index] for index in range(values.shape[1])]
            arrays += [self._pa.array(np.ascontiguousarray(part)) for part in parts]
        self._file.write_table(self._pa.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        self._file.close()


def _wide(dtype: "np.dtype[np.generic]") -> "np.dtype[np.generic]":
    """Return a dtype that pyarrow can write: half precision becomes single."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype
