"""Rows of a CSV file with a header, read by pyarrow."""

import io
from collections.abc import Sequence
from typing import Any

from runner.core.errors import InputError, describe
from runner.core.text import plural, row_range
from runner.data.rows import Rows
from runner.sources.base import DataSpec
from runner.sources.decompress import without_compression
from runner.sources.files import read_range
from runner.sources.tables.arrow import ArrowColumns
from runner.sources.tables.csv_types import (
    HEXADECIMAL,
    NULLS,
    HeadFacts,
    as_numbers,
    check_hexadecimal,
    column_types,
    given_types,
)
from runner.sources.tables.header import check_beginning, check_header
from runner.sources.tables.lines import LineSource

_INFERRED_BYTES = 4 << 20  # the types of columns are inferred from the rows in so many bytes


class CsvSource(LineSource):
    """A `.csv` or `.tsv` file; its first line names the columns, and quoted fields may hold line breaks.

    Passthrough columns stay as they are written: numbers only where these are what their text says.

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
        delimiter = "\t" if without_compression(spec.path).endswith(".tsv") else ","
        self._parsing = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        head = read_range(self._file, self._start, min(self._file.size, self._start + _INFERRED_BYTES))
        if len(head) == _INFERRED_BYTES:
            head = head[: self._last_end(head)]
        header = _first_line(head)
        check_beginning(spec, header, head[len(header) :], delimiter)
        table = self._infer(head, spec)
        are_numbers = [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in table.schema.types]
        if len(table):
            check_header(spec, table.schema.names, are_numbers)
        self._names = table.schema.names
        given = given_types(spec, self._names)
        texts = self._read(head, dict.fromkeys(self._names, pa.string()), lenient=True) if spec.keep else None
        types = column_types(table, texts, spec, given)
        self._as_text = [name for name in spec.keep if pa.types.is_integer(types[name]) and name not in given]
        schema = pa.schema(list(zip(self._names, (types[name] for name in self._names), strict=True)))
        self._columns = ArrowColumns(schema, spec, HeadFacts(table))
        self.row_type = self._columns.row_type
        self._has_nan = b"nan" in head.lower()
        self._start += len(header)
        self._types = {name: types[name] for name in self._columns.names}

    def parse(self, block: bytes, first: int, count: int) -> Rows:
        import pyarrow as pa

        types = self._types | dict.fromkeys(self._as_text, pa.string())
        convert = self._csv.ConvertOptions(
            column_types=types, include_columns=self._columns.names, strings_can_be_null=False, null_values=NULLS
        )
        try:
            table = self._csv.read_csv(
                io.BytesIO(block), self._reading(len(block), self._names), self._parsing, convert
            )
        except self._error as error:
            raise self._refusal_with_advice(first, count, error) from error
        if len(table) != count:
            raise InputError(f"--data {self._file.path}: {row_range(first, first + count)} are {len(table)} in CSV")
        if HEXADECIMAL.search(block):
            self._check_hexadecimal(table, block, first)
        for name in self._as_text:
            numbers = as_numbers(table.column(name), self._types[name], name, f"--data {self._file.path}", first)
            table = table.set_column(self._columns.names.index(name), name, numbers)
        return self._columns.rows(table, first)

    def _check_hexadecimal(self, table: Any, block: bytes, first: int) -> None:
        """Raise InputError where a whole number in hexadecimal digits is too large for its column."""
        import pyarrow as pa

        names = [field.name for field in table.schema if pa.types.is_signed_integer(field.type)]
        convert = self._csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), include_columns=names, strings_can_be_null=False
        )
        if names:
            texts = self._csv.read_csv(
                io.BytesIO(block), self._reading(len(block), self._names), self._parsing, convert
            )
            check_hexadecimal(table, texts, f"--data {self._file.path}", first)

    def digest(self) -> str:
        return super().digest() + " NaN" * self._has_nan  # which earlier versions read as null

    def _infer(self, head: bytes, spec: DataSpec) -> Any:
        """Return the rows at the beginning, without those that have too many or too few fields."""
        try:
            return self._read(head)
        except self._error:  # a later row may be at fault, which is reported when it is read
            try:
                table = self._read(head, lenient=True)
            except self._error as error:
                raise InputError(f"{spec.what} is not CSV with a header: {describe(error)}") from error
            if not len(table) and self._skipped:
                raise InputError(
                    f"{spec.what}: its first line has {plural(self._skipped[0], 'field')}, and the rows have "
                    f"{self._skipped[1]}. Put a line with a name for each column before them"
                ) from None
            return table

    def _read(self, head: bytes, types: Any = None, lenient: bool = False) -> Any:
        self._skipped: tuple[int, int] | None = None

        def skip(row: Any) -> str:
            self._skipped = self._skipped or (row.expected_columns, row.actual_columns)
            return "skip"

        parsing = self._parsing
        if lenient:
            parsing = self._csv.ParseOptions(
                delimiter=parsing.delimiter, newlines_in_values=True, invalid_row_handler=skip
            )
        convert = self._csv.ConvertOptions(column_types=types, null_values=NULLS)
        return self._csv.read_csv(io.BytesIO(head), self._reading(len(head)), parsing, convert)

    def _refusal_with_advice(self, first: int, count: int, error: Exception) -> InputError:
        refusal = self.refusal(first, count, error)
        if "conversion error to" not in str(error) or count > 1:
            return refusal
        return InputError(
            f"{refusal.message}. The rows before have numbers of this type; --types NAME=TYPE gives another"
        )

    def _reading(self, size: int, names: Sequence[str] | None = None) -> Any:
        return self._csv.ReadOptions(use_threads=False, block_size=max(1, size), column_names=names)

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
