"""Predictions in a CSV file, written by pyarrow: a column for each number of a vector."""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from runner.core.errors import UsageError
from runner.data.cell_types import arrow_type, cell_name
from runner.data.cells import from_cells
from runner.data.columns import Columns
from runner.data.json_cells import json_values
from runner.data.rows import TEXT, Ragged, RowType, texts_of

_TEXT_OR_NAN = re.compile(rb'"(?:[^"]|"")*"|(?<![^,\t\n])(-?nan)(?![^,\t\n])')


class CsvWriter:
    """A writer of a header and a line per row; a vector column `name` becomes columns `name_0`, `name_1` and so on.

    Args:
        path: path of the file; columns are separated by tabs where the output is a `.tsv` file.
        types: types of its columns.
        num_rows: number of rows that it will hold.
    """

    @staticmethod
    def check(output: str, types: Mapping[str, RowType]) -> None:
        """Raise UsageError where pyarrow is missing, CSV cannot hold a column, or two would have one name."""
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
            if 0 in row_type.shape:
                raise UsageError(
                    f"--output {output}: CSV cannot hold {name!r}, {row_type} per row, which has no values. Leave it "
                    "out with --postprocess, or write .npy or .jsonl"
                )

        header = [name for column, row_type in types.items() for name in _header(column, row_type)]
        if twice := [name for name, count in Counter(header).items() if count > 1]:
            raise UsageError(
                f"--output {output}: two columns of CSV would have the name {twice[0]!r}. Rename one with "
                "--postprocess or in the data, or write .parquet"
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
            fields += [(column, kind) for column in _header(name, row_type)]
        self._schema = pa.schema(fields)
        delimiter = "\t" if ".tsv" in os.path.basename(path) else ","
        self._options = csv.WriteOptions(include_header=False, delimiter=delimiter)
        self._write_csv = csv.write_csv
        self._file = open(path, "wb")  # noqa: SIM115
        csv.write_csv(self._schema.empty_table(), self._file, csv.WriteOptions(delimiter=delimiter))

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
            arrays += [self._pa.array(np.ascontiguousarray(part, _wide(part.dtype))) for part in parts]
        lines = self._pa.BufferOutputStream()
        self._write_csv(self._pa.Table.from_arrays(arrays, schema=self._schema), lines, self._options)
        self._file.write(_with_nan(lines.getvalue().to_pybytes()))

    def close(self) -> None:
        self._file.close()


def _with_nan(lines: bytes) -> bytes:
    """Return lines with `NaN`, which all readers know, where Arrow writes `nan`; not in texts, which it has quoted."""
    if b"nan" not in lines:
        return lines
    return _TEXT_OR_NAN.sub(lambda match: match[0].replace(b"nan", b"NaN") if match[1] else match[0], lines)


def _header(name: str, row_type: RowType) -> list[str]:
    """Return the names of the columns of numbers or of text that a column becomes."""
    if row_type.is_ragged or not row_type.shape:
        return [name]
    return [f"{name}_{index}" for index in range(row_type.shape[0])]


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
    if kind == array.type:
        return array
    is_text = pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type)
    is_span = pa.types.is_duration(array.type) or pa.types.is_interval(array.type)
    if is_text or (pa.types.is_temporal(array.type) and not is_span):
        return array.cast(kind)
    texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in json_values(cells)]
    return pa.array(texts, kind)
