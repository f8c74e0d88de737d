"""Arrow's types in the eyes of a model: plain ones instead of extension types, and the lengths of lists."""

import json
from typing import Any

import numpy as np

from runner.core.errors import InputError

_NAME = b"ARROW:extension:name"
_METADATA = b"ARROW:extension:metadata"
_TENSOR = "arrow.fixed_shape_tensor"
_SHAPED = ("datasets.features.features.Array", "ray.data.arrow_tensor")  # beginnings of names


def is_list(kind: Any) -> bool:
    """Return whether a type is one of lists of any length."""
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def is_text(kind: Any) -> bool:
    """Return whether a type is one of text."""
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def plain_field(field: Any, what: str) -> Any:
    """Return the type of a field without extension types: tensors become nested lists of fixed lengths.

    The shape is in the type, or, where its library is not imported, in the metadata of the field.

    Raises:
        InputError: a tensor's axes are not in the order of its values.
    """
    import pyarrow as pa

    kind = field.type
    if isinstance(kind, pa.BaseExtensionType):
        if getattr(kind, "permutation", None) not in (None, list(range(len(getattr(kind, "shape", ()))))):
            raise InputError(
                f"{what}: column {field.name!r} holds tensors whose axes are stored in the order {kind.permutation}. "
                "Save them in their own order"
            )
        shape = getattr(kind, "shape", None)
        is_tensor = kind.extension_name == _TENSOR or kind.extension_name.startswith(_SHAPED)
        return _nested(kind.storage_type, shape) if is_tensor and shape and None not in shape else kind
    metadata = field.metadata or {}
    is_tensor = metadata.get(_NAME, b"").decode(errors="replace").startswith(_SHAPED)
    shape = _shape_in(metadata.get(_METADATA, b"")) if is_tensor else None
    return _nested(kind, shape) if shape else kind


def as_text(kind: Any) -> Any:
    """Return a type with text in place of dates and times, at any depth."""
    import pyarrow as pa

    if pa.types.is_temporal(kind):
        return pa.string()
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(as_text(kind.value_type), kind.list_size)
    if is_list(kind):
        return pa.list_(as_text(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, as_text(field.type)) for field in kind])
    return kind


def shape_of_lists(column: Any) -> tuple[int, ...] | None:
    """Return the lengths of the lists in a chunked column, from the outside in; None where they differ or are zero."""
    import pyarrow as pa
    import pyarrow.compute as pc

    shape: list[int] = []
    values = column.drop_null()
    while is_list(values.type) or pa.types.is_fixed_size_list(values.type):
        lengths = np.unique(pc.list_value_length(values).to_numpy())
        if len(lengths) != 1 or not lengths[0] or values.null_count:
            return None
        shape.append(int(lengths[0]))
        values = pc.list_flatten(values)
    return tuple(shape)


def _shape_in(metadata: bytes) -> tuple[int, ...] | None:
    """Return the shape in the metadata of a tensor: of Ray, `[2, 3]`; of Datasets, `[[2, 3], "float32"]`."""
    try:
        found = json.loads(metadata)
    except ValueError:
        return None
    shape = found[0] if isinstance(found, list) and found and isinstance(found[0], list) else found
    is_shape = isinstance(shape, list) and shape and all(isinstance(length, int) for length in shape)
    return tuple(shape) if is_shape else None


def _nested(kind: Any, shape: Any) -> Any:
    """Return lists of fixed lengths of the innermost values of nested lists."""
    import pyarrow as pa

    while is_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    for length in reversed(shape):
        kind = pa.list_(kind, length)
    return kind


def as_plain(column: Any, kind: Any) -> Any:
    """Return a chunked column with its extension type replaced by the plain one; see `plain_field`."""
    import pyarrow as pa

    if column.type == kind:
        return column
    chunks = [
        _reshaped(chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk, kind) for chunk in column.chunks
    ]
    return pa.chunked_array(chunks, kind)


def _reshaped(array: Any, kind: Any) -> Any:
    """Return nested lists of one shape as lists of fixed lengths, whatever their own nesting; null rows stay null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    shape: list[int] = []
    inner = kind
    while pa.types.is_fixed_size_list(inner):
        shape.append(inner.list_size)
        inner = inner.value_type
    valid = array.is_valid()
    values = array.filter(valid) if array.null_count else array
    while is_list(values.type) or pa.types.is_fixed_size_list(values.type):
        values = values.flatten()
    if len(values) != (len(array) - array.null_count) * int(np.prod(shape)):
        raise InputError(f"a tensor has other than {int(np.prod(shape))} values")
    for length in reversed(shape):
        values = pa.FixedSizeListArray.from_arrays(values, length)
    if array.null_count:
        places = pc.if_else(valid, pc.subtract(pc.cumulative_sum(valid.cast(pa.int64())), 1), None)
        values = values.take(places)
    return values.cast(kind)
