"""Rows of a JSON Lines file, read by pyarrow."""

import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from runner.core.errors import InputError, describe
from runner.core.text import plural
from runner.data.rows import Rows
from runner.sources.base import DataSpec, no_such
from runner.sources.common_types import LIST
from runner.sources.files import read_range
from runner.sources.tables.arrow import ArrowColumns
from runner.sources.tables.arrow_types import as_text
from runner.sources.tables.csv_types import HeadFacts
from runner.sources.tables.lines import LineSource

_INFERRED_BYTES = 4 << 20  # the types of fields are inferred from the rows in so many bytes
_LONG = re.compile(rb"\d{19}")
_DECIDING_ROWS = 1000  # where lists have one length in so many first rows, they must have it in all


class JsonLinesSource(LineSource):
    """A `.jsonl` or `.ndjson` file: each line is a JSON object, whose fields are the columns.

    Lists of numbers that all have one length at the beginning of the file must have it everywhere.

    Raises:
        InputError: no such file or field, no JSON, or a field is neither numbers, lists of them, nor text.
    """

    skips_blank = True

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec.path)
        import pyarrow as pa
        import pyarrow.compute
        from pyarrow import json as arrow_json

        self._json = arrow_json
        self._error = (pa.ArrowInvalid, pa.ArrowNotImplementedError)
        head = read_range(self._file, self._start, min(self._file.size, self._start + _INFERRED_BYTES))
        if len(head) == _INFERRED_BYTES:
            head = head[: head.rfind(b"\n") + 1]
        if not (table := self._infer(head)) or not table.schema.names:
            raise InputError(f"{spec.what} holds no JSON objects, one per line, in its first {len(head):,} bytes")
        given = self._given(spec, table.schema.names)
        schema = pa.schema([(f.name, given.get(f.name) or self._type(table.column(f.name), pa)) for f in table.schema])
        for name in spec.choose(schema.names):
            if pa.types.is_floating(schema.field(name).type) and name not in given:
                _check_digits(spec.what, name, head)
        lists = [name for name, kind in spec.options.types.items() if kind == LIST]
        schema = pa.schema([(f.name, table.schema.field(f.name).type if f.name in lists else f.type) for f in schema])
        self._columns = ArrowColumns(schema, spec, HeadFacts(table))
        self.row_type = self._columns.row_type
        self._fixed = {name: schema.field(name).type for name in self._columns.names}
        self._schema = pa.schema([(name, _loose(kind, pa)) for name, kind in self._fixed.items()])

    def parse(self, block: bytes, first: int, count: int) -> Rows:
        import pyarrow as pa

        options = self._json.ParseOptions(
            explicit_schema=self._schema, newlines_in_values=False, unexpected_field_behavior="ignore"
        )
        try:
            table = self._json.read_json(pa.BufferReader(block), self._reading(len(block)), options)
            if len(table) != count:
                raise self.refusal(
                    first, count, ValueError(f"{plural(len(table), 'JSON object')} in {plural(count, 'line')}")
                )
            for index, (name, kind) in enumerate(self._fixed.items()):
                if table.schema.field(name).type != kind:
                    table = table.set_column(index, name, _to_fixed(table.column(name), kind))
        except self._error as error:
            raise self.refusal(first, count, error) from error
        return self._columns.rows(table, first)

    def _type(self, column: Any, pa: Any) -> Any:
        """Return the type of a field: text that looks like a time stays text, and is never rewritten."""
        return as_text(_settled(column.slice(0, _DECIDING_ROWS), pa))

    def _given(self, spec: DataSpec, names: Sequence[str]) -> dict[str, Any]:
        """Return the types that the user gives, as Arrow's; without `list`, which says no more than that."""
        import pyarrow as pa

        for name in spec.options.types:
            if name not in names:
                raise no_such(spec.what, name, names, "field")
        return {name: pa.type_for_alias(kind) for name, kind in spec.options.types.items() if kind != LIST}

    def _reading(self, size: int) -> Any:
        return self._json.ReadOptions(use_threads=False, block_size=max(1, size) + 1)

    def _infer(self, head: bytes) -> Any:
        """Return the rows at the beginning, without those that are not JSON, which are reported when they are read."""
        try:
            return self._json.read_json(io.BytesIO(head), self._reading(len(head)))
        except self._error:
            text = b"".join(_alike(head.splitlines()))
            try:
                return self._json.read_json(io.BytesIO(text), self._reading(len(text))) if text else None
            except self._error as error:
                raise InputError(
                    f"--data {self._file.path}: its rows have different types: {describe(error)}"
                ) from error


def _check_digits(what: str, name: str, head: bytes) -> None:
    """Raise InputError where whole numbers are too long for 64 bits: as floating-point numbers they would change."""
    for line in head.splitlines() if _LONG.search(head) else ():
        try:
            value = json.loads(line).get(name) if _LONG.search(line) else None
        except (ValueError, AttributeError):  # no JSON object, which is reported when it is read
            continue
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise InputError(
                f"{what}: field {name!r} holds {value}, which has no place in 64 bits and would be rounded. Write such "
                "numbers as text, in quotes"
            )


def _alike(lines: Sequence[bytes]) -> list[bytes]:
    """Return the lines that hold objects, without those in which a field's kind differs from its most common one."""
    objects = []
    for line in lines:
        try:
            if isinstance(item := json.loads(line), dict):
                objects.append((line + b"\n", {name: _kind(value) for name, value in item.items()}))
        except ValueError:
            continue
    kinds: dict[str, Counter[str]] = {}
    for _, fields in objects:
        for name, kind in fields.items():
            kinds.setdefault(name, Counter())[kind] += kind != "null"
    usual = {name: counts.most_common(1)[0][0] for name, counts in kinds.items()}
    return [line for line, fields in objects if all(kind in ("null", usual[name]) for name, kind in fields.items())]


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return f"list of {_kind(value[0])}" if value else "null"
    if value is None:
        return "null"
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def _settled(column: Any, pa: Any) -> Any:
    """Return the type of a column; for lists of numbers of equal length, lists of that fixed length."""
    kind = column.type
    if not pa.types.is_list(kind) or not len(column) or column.null_count:
        return kind
    inner = _settled(pa.chunked_array([chunk.flatten() for chunk in column.chunks], kind.value_type), pa)
    lengths = np.unique(pa.compute.list_value_length(column).to_numpy())
    return pa.list_(inner, int(lengths[0])) if len(lengths) == 1 and lengths[0] else kind


def _loose(kind: Any, pa: Any) -> Any:
    """Return a type that the parser accepts: it has no lists of fixed length."""
    return pa.list_(_loose(kind.value_type, pa)) if pa.types.is_fixed_size_list(kind) else kind


def _to_fixed(column: Any, kind: Any) -> Any:
    import pyarrow as pa

    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise pa.ArrowInvalid(f"a list is not of length {kind.list_size}, as those before it") from error
