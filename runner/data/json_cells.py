"""Cells in JSON."""

import base64
import json
import math
from typing import Any

from runner.data.cells import from_cells
from runner.data.rows import Ragged


def json_values(cells: Ragged) -> list[Any]:
    """Return cells as JSON has them: dates, times and decimals as text, bytes as text in base64, null as None."""
    return _json_rows(from_cells(cells))


def _json_rows(array: Any) -> list[Any]:
    import pyarrow as pa

    types, kind = pa.types, array.type
    if isinstance(kind, pa.JsonType):
        return [None if text is None else json.loads(text) for text in array.to_pylist()]
    if types.is_struct(kind):
        names = [field.name for field in kind]
        if len(set(names)) < len(names):
            raise ValueError(f"two fields of {kind} have one name")
        fields = [_json_rows(array.field(index)) for index in range(len(names))]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*fields, strict=True)] or [{}] * len(array)
        return [row if valid else None for row, valid in zip(rows, array.is_valid().to_pylist(), strict=True)]
    if types.is_map(kind):
        pairs = [item.values if item.is_valid else None for item in array]
        parts = [None if pair is None else map(_json_rows, (pair.field(0), pair.field(1))) for pair in pairs]
        return [None if part is None else [list(both) for both in zip(*part, strict=True)] for part in parts]
    if types.is_nested(kind):
        return [_json_rows(item.values) if item.is_valid else None for item in array]
    if types.is_temporal(kind) and not types.is_interval(kind):  # not by Python, whose times end sooner
        texts = array.cast(pa.string()) if not types.is_duration(kind) else array.cast(pa.int64())
        return [text.replace(" ", "T", 1) if isinstance(text, str) else text for text in texts.to_pylist()]
    return [_json_value(value) for value in array.to_pylist()]


def _json_value(value: Any) -> Any:
    if isinstance(value, list | tuple):  # of an interval
        return list(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
