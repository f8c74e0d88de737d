"""Predictions as JSON lines, by orjson: numbers with as many digits as tell them from all others."""

from collections.abc import Mapping

import numpy as np

from runner.data.columns import Columns
from runner.data.rows import TEXT, Ragged, RowType, texts_of
from runner.sinks import import_for_output


class JsonLinesWriter:
    """A line a row, an object with a field for each column; NaN and infinity, which JSON lacks, are null.

    Args:
        path: the file.
        types: of its columns.
        num_rows: how many rows it is to hold.
    """

    @staticmethod
    def check(output: str, types: Mapping[str, RowType]) -> None:
        """Raise UsageError where orjson is missing."""
        import_for_output("orjson", output, "jsonl")

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
    """What orjson takes: contiguous; half precision as single."""
    return np.ascontiguousarray(column, np.float32 if column.dtype == np.float16 else column.dtype)
