"""Cells: values of any Arrow type, or null, as variable-length rows of bytes, on their way from the data to the output.

A null has no bytes. Numbers, dates and the like are the bytes that Arrow has for them; text and bytes follow a first
byte, which tells an empty one from null; lists, structs and maps are one row of an Arrow record batch each.
"""

import base64
import itertools
import json
import math
from typing import Any

import numpy as np

from runner.data.cell_types import arrow_type, cell_dtype
from runner.data.rows import Ragged

_NAME = "cell"


def to_cells(array: Any, dtype: np.dtype[Any]) -> Ragged:
    """Return an Arrow array, not chunked, as cells of the given dtype, which is that of its type."""
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    elif pa.types.is_nested(array.type) and array.type != (kind := arrow_type(dtype)):
        array = array.cast(kind)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_null(array.type):
        values, lengths = np.empty(0, np.uint8), np.zeros(len(array), np.int64)
    elif _is_text(array.type):
        values, lengths = _text_bytes(array, valid)
    elif (width := _width(array.type)) is not None:
        values, lengths = _fixed_bytes(array, valid, width), valid * np.int64(width)
    else:
        parts = [_row_bytes(array.slice(row, 1)) if valid[row] else b"" for row in range(len(array))]
        values = np.frombuffer(b"".join(parts), np.uint8)
        lengths = np.array([len(part) for part in parts], np.int64)
    return Ragged(np.array(values).view(dtype), np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]))


def from_cells(cells: Ragged) -> Any:
    """Return cells as an Arrow array of their type."""
    import pyarrow as pa

    kind = arrow_type(cells.values.dtype)
    storage = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    values, lengths = cells.values.view(np.uint8), cells.lengths
    valid = lengths > 0
    if pa.types.is_null(storage):
        array = pa.nulls(len(cells))
    elif _is_text(storage):
        array = _to_text(values, lengths, valid, storage)
    elif (width := _width(storage)) is not None:
        array = _to_fixed(values, valid, width, storage)
    else:
        schema = pa.schema([pa.field(_NAME, storage)])
        offsets = cells.offsets.tolist()
        rows = [
            pa.ipc.read_record_batch(pa.py_buffer(values[first:last].tobytes()), schema).column(0)
            if first < last
            else pa.nulls(1, storage)
            for first, last in itertools.pairwise(offsets)
        ]
        array = pa.concat_arrays(rows) if rows else pa.array([], storage)
    return pa.ExtensionArray.from_storage(kind, array) if isinstance(kind, pa.BaseExtensionType) else array


def json_values(cells: Ragged) -> list[Any]:
    """Return cells as JSON has them: dates, times, decimals as text, bytes as text in base64, null as None."""
    import pyarrow as pa

    array = from_cells(cells)
    if isinstance(array.type, pa.JsonType):
        return [None if text is None else json.loads(text) for text in array.to_pylist()]
    if pa.types.is_temporal(array.type):
        texts = array.cast(pa.string()) if not pa.types.is_duration(array.type) else array.cast(pa.int64())
        return [text.replace(" ", "T", 1) if isinstance(text, str) else text for text in texts.to_pylist()]
    return [_json_value(value) for value in array.to_pylist()]


def _json_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _json_value(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def type_of_cells(kind: Any) -> np.dtype[Any]:
    """Return the dtype of cells for an Arrow column's type; a dictionary's is that of its values."""
    return cell_dtype(_without_dictionaries(kind) if "dictionary" in str(kind) else kind)


def _without_dictionaries(kind: Any) -> Any:
    """Return a type whose values stand in each row themselves, at any depth."""
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(kind):
        return kind.value_type
    if types.is_list(kind):
        return pa.list_(_without_dictionaries(kind.value_type))
    if types.is_large_list(kind):
        return pa.large_list(_without_dictionaries(kind.value_type))
    if types.is_fixed_size_list(kind):
        return pa.list_(_without_dictionaries(kind.value_type), kind.list_size)
    if types.is_struct(kind):
        return pa.struct([field.with_type(_without_dictionaries(field.type)) for field in kind])
    return kind


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or _is_bytes(kind)


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _width(kind: Any) -> int | None:
    """Return the bytes of a value of fixed width; None for other types."""
    import pyarrow as pa

    if pa.types.is_boolean(kind):
        return 1
    is_fixed = pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind)
    return kind.bit_width // 8 if is_fixed and kind.bit_width else None


def _fixed_bytes(array: Any, valid: np.ndarray, width: int) -> np.ndarray:
    import pyarrow as pa

    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    if not len(array):
        return np.empty(0, np.uint8)
    buffer = np.frombuffer(array.buffers()[1], np.uint8)
    table = buffer[array.offset * width : (array.offset + len(array)) * width].reshape(len(array), width)
    taken: np.ndarray = table[valid].reshape(-1)
    return taken


def _to_fixed(values: np.ndarray, valid: np.ndarray, width: int, kind: Any) -> Any:
    import pyarrow as pa

    table = np.zeros((len(valid), width), np.uint8)
    table[valid] = values.reshape(-1, width)
    is_bool = pa.types.is_boolean(kind)
    buffers = [pa.py_buffer(np.packbits(valid, bitorder="little")), pa.py_buffer(table)]
    array = pa.Array.from_buffers(pa.uint8() if is_bool else kind, len(valid), buffers)
    return array.cast(kind) if is_bool else array


def _text_bytes(array: Any, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import pyarrow as pa

    if pa.types.is_string_view(array.type):
        array = array.cast(pa.large_string())
    column = array.cast(pa.large_binary())
    bounds = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
    lengths = np.diff(bounds) if len(column) else np.empty(0, np.int64)
    data = column.buffers()[2]
    text = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
    ends = np.cumsum(np.where(valid, lengths + 1, 0))
    values = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    is_first = np.zeros(len(values), bool)
    is_first[(ends - lengths - 1)[valid]] = True
    values[is_first] = 1
    # a null may have bytes of its own between those of its neighbors
    taken = np.repeat(valid, lengths)
    values[~is_first] = text[bounds[0] : bounds[-1]][taken] if len(column) else text[:0]
    return values, np.where(valid, lengths + 1, 0)


def _to_text(values: np.ndarray, lengths: np.ndarray, valid: np.ndarray, kind: Any) -> Any:
    import pyarrow as pa

    is_first = np.zeros(len(values), bool)
    is_first[(np.cumsum(lengths) - lengths)[valid]] = True
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.maximum(lengths - 1, 0))])
    large = pa.large_binary() if _is_bytes(kind) else pa.large_string()
    buffers = [pa.py_buffer(np.packbits(valid, bitorder="little")), pa.py_buffer(offsets)]
    return pa.Array.from_buffers(large, len(valid), [*buffers, pa.py_buffer(values[~is_first])]).cast(kind)


def _row_bytes(array: Any) -> bytes:
    import pyarrow as pa

    content: bytes = pa.record_batch([array], [_NAME]).serialize().to_pybytes()
    return content
