"""Predictions as JSON Lines, written by orjson: numbers with just enough digits to tell them apart."""

from collections.abc import Mapping

import numpy as np

from runner.core.errors import UsageError
from runner.data.cell_types import cell_name
from runner.data.columns import Columns
from runner.data.json_cells import json_values
from runner.data.rows import TEXT, Ragged, RowType, texts_of


class JsonLinesWriter:
    """A writer of a line per row, an object with a field for each column; NaN and infinity, not in JSON, become null.

    Args:
        path: path of the file.
        types: types of its columns.
        num_rows: number of rows that it will hold.
    """

    @staticmethod
    def check(output: str, types: Mapping[str, RowType]) -> None:
        """Raise UsageError where orjson is missing, or JSON cannot hold a column."""
        import orjson  # noqa: F401 - a missing library is reported here

        for name, row_type in types.items():
            if row_type.dtype.kind == "c":
                raise UsageError(
                    f"--output {output}: JSON cannot hold {name!r}, {row_type} per row. Give its real and imaginary "
                    "parts with --postprocess (torch.view_as_real), or write .npy"
                )

    def __init__(self, path: str, types: Mapping[str, RowType], num_rows: int) -> None:
        import orjson

        self._dumps = orjson.dumps
        self._options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
        self._types = types
        self._file = open(path, "wb")  # noqa: SIM115

    def write(self, columns: Columns) -> None:
        values = []
        for column in columns.values():
            if not isinstance(column, Ragged):
                values.append(list(_writable(column)))
            elif cell_name(column.values.dtype):
                values.append(json_values(column))
            elif column.values.dtype == TEXT:
                values.append(texts_of(column))
            else:
                values.append(np.split(_writable(column.values), column.offsets[1:-1]))
        names = list(columns)
        for row in zip(*values, strict=True):
            self._file.write(self._dumps(dict(zip(names, row, strict=True)), option=self._options))

    def close(self) -> None:
        self._file.close()


def _writable(column: np.ndarray) -> np.ndarray:
    """Return a column that orjson can write: contiguous; half precision becomes single."""
    return np.ascontiguousarray(column, np.float32 if column.dtype == np.float16 else column.dtype)
