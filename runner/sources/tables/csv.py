"""Rows of a CSV file with a header, read by pyarrow."""

import io
from collections.abc import Sequence
from typing import Any

from runner.core.errors import InputError, describe
from runner.core.text import row_range
from runner.core.urls import without_query
from runner.data.rows import Rows
from runner.sources.base import DataSpec
from runner.sources.files import read_range
from runner.sources.tables.arrow import ArrowColumns
from runner.sources.tables.header import check_header
from runner.sources.tables.lines import LineSource

_INFERRED_BYTES = 4 << 20  # the types of columns are inferred from the rows in so many bytes
_DECIDING_ROWS = 1000  # a column is numeric where so many first rows are, even if later ones are not


class CsvSource(LineSource):
    """A `.csv` or `.tsv` file; its first line names the columns, and quoted fields may hold line breaks.

    Raises:
        InputError: no such file or column, no CSV, or a column is neither of numbers nor of text.
    """

    has_quotes = True
    skips_blank = True

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec.path)
        import pyarrow as pa
        from pyarrow import csv

        self._csv, self._error = csv, pa.ArrowInvalid
        delimiter = "\t" if without_query(spec.path).endswith(".tsv") else ","
        self._parsing = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        head = read_range(self._file, self._start, min(self._file.size, self._start + _INFERRED_BYTES))
        if len(head) == _INFERRED_BYTES:
            head = head[: self._last_end(head)]
        header, table = _first_line(head), None
        try:
            table = csv.read_csv(io.BytesIO(head), self._reading(len(head)), self._parsing)
        except pa.ArrowInvalid:
            try:  # a later row may be at fault, which is reported when it is read
                table = csv.read_csv(io.BytesIO(head), self._reading(len(head)), self._lenient())
            except pa.ArrowInvalid as error:
                raise InputError(f"{spec.what} is not CSV with a header: {describe(error)}") from error
        table = self._numbers_with_exceptions(table)
        are_numbers = [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in table.schema.types]
        if len(table):
            check_header(spec, table.schema.names, are_numbers)
        self._columns = ArrowColumns(table.schema, spec)
        self.row_type = self._columns.row_type
        self._start += len(header)
        self._names = table.schema.names
        self._types = {name: table.schema.field(name).type for name in self._columns.names}

    def parse(self, block: bytes, first: int, count: int) -> Rows:
        convert = self._csv.ConvertOptions(
            column_types=self._types, include_columns=self._columns.names, strings_can_be_null=False
        )
        try:
            table = self._csv.read_csv(
                io.BytesIO(block), self._reading(len(block), self._names), self._parsing, convert
            )
        except self._error as error:
            raise self.refusal(first, count, error) from error
        if len(table) != count:
            raise InputError(f"--data {self._file.path}: {row_range(first, first + count)} are {len(table)} in CSV")
        return self._columns.rows(table, first)

    def _numbers_with_exceptions(self, table: Any) -> Any:
        """Make columns that begin with numbers numeric: other values are bad rows."""
        import pyarrow as pa

        for index, field in enumerate(table.schema):
            if pa.types.is_string(field.type):
                try:
                    table.column(index).slice(0, _DECIDING_ROWS).cast(pa.float64())
                except self._error:
                    continue
                table = table.set_column(index, field.name, pa.nulls(len(table), pa.float64()))
        return table

    def _reading(self, size: int, names: Sequence[str] | None = None) -> Any:
        return self._csv.ReadOptions(use_threads=False, block_size=max(1, size), column_names=names)

    def _lenient(self) -> Any:
        """Return parsing options that skip rows with too many or too few fields."""
        return self._csv.ParseOptions(
            delimiter=self._parsing.delimiter, newlines_in_values=True, invalid_row_handler=lambda row: "skip"
        )

    def _last_end(self, head: bytes) -> int:
        """Return the end of the last complete row, in bytes."""
        end = len(head)
        while (end := head.rfind(b"\n", 0, end)) >= 0:
            if head.count(b'"', 0, end) % 2 == 0:
                return end + 1
        return len(head)


def _first_line(head: bytes) -> bytes:
    """Return the header with its line end, and the blank lines before it."""
    end = 0
    while (end := head.find(b"\n", end) + 1) > 0:
        if head[:end].strip(b"\r\n") and head.count(b'"', 0, end) % 2 == 0:
            return head[:end]
    return head
