"""Features of `tf.train.Example`s as Arrow columns."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from runner.core.errors import InputError, describe
from runner.sources.media.decode import pixels_of

_SAMPLED_ROWS = 100
_KINDS = {"int64_list": "int64", "float_list": "float32", "bytes_list": "bytes"}


def feature_type(name: str, rows: Sequence[Any]) -> Any:
    """Return the Arrow type of a feature, from the first records."""
    import pyarrow as pa

    there = [row[name] for row in rows if name in row and row[name].WhichOneof("kind")]
    kinds = Counter(feature.WhichOneof("kind") for feature in there)
    if not kinds:
        return pa.list_(pa.int64())
    kind = kinds.most_common(1)[0][0]
    values = [getattr(feature, kind).value for feature in there if feature.WhichOneof("kind") == kind]
    inner: Any = {"int64_list": pa.int64(), "float_list": pa.float32()}.get(kind)
    if inner is None:
        inner = _type_of_bytes([content for contents in values for content in contents])
    return inner if all(len(value) == 1 for value in values) else pa.list_(inner)


def feature_column(rows: Sequence[Any], name: str, kind: Any, first: int, what: str) -> Any:
    """Return a feature of records as an Arrow array.

    Args:
        rows: features of each record.
        name: name of the one to take.
        kind: its Arrow type; see `feature_type`.
        first: number of the first record.
        what: the data set, for messages.

    Raises:
        InputError: a record has it of another kind, or with several values where others have one.
    """
    import pyarrow as pa

    is_list = pa.types.is_list(kind)
    inner = kind.value_type if is_list else kind
    field = {pa.int64(): "int64_list", pa.float32(): "float_list"}.get(inner, "bytes_list")
    values: list[Any] = []
    for number, row in enumerate(rows, first):
        own = row[name].WhichOneof("kind") if name in row else None
        if own is None:
            values.append([] if is_list and name in row else None)
            continue
        if own != field:
            raise InputError(f"{what}: row {number}: {name!r} is {_KINDS[own]}, where others are {_KINDS[field]}")
        value = getattr(row[name], own).value
        if not is_list and len(value) != 1:
            raise InputError(f"{what}: row {number}: {name!r} has {len(value)} values, where those before have one")
        made = [{"bytes": v, "path": None} for v in value] if pa.types.is_struct(inner) else list(value)
        values.append(made if is_list else made[0])
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise InputError(f"{what}: {name!r} of {len(rows)} rows from row {first} on: {describe(error)}") from error


class FeatureFacts:
    """Facts from the first records; see `Facts`."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def shape(self, name: str) -> tuple[int, ...] | None:
        import pyarrow.compute as pc

        lengths = pc.unique(pc.list_value_length(self._table.column(name))).to_pylist()
        return (lengths[0],) if len(lengths) == 1 and lengths[0] else None

    def sample(self, name: str) -> Any:
        return self._table.column(name).slice(0, _SAMPLED_ROWS)

    def has_nulls(self, name: str) -> bool:
        return bool(self._table.column(name).null_count)


def _type_of_bytes(contents: Sequence[bytes]) -> Any:
    """Return the Arrow type of bytes: images, as `runner.sources.tables.pictures` has them, text, or no more."""
    import pyarrow as pa

    try:
        for content in contents:
            content.decode()
    except UnicodeDecodeError:  # as every image is
        is_image = pixels_of(contents[0]) > 0
        return pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if is_image else pa.binary()
    return pa.string()
