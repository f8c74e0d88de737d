"""Files in a column, as Hugging Face's Datasets has them: the bytes of a file in each row, and its path."""

from typing import Any

from runner.core.errors import InputError

_BYTES = "bytes"
_PATH = "path"


def first_content(kind: Any, sample: Any) -> bytes | None:
    """Return the first file of a column; empty where no row has one, None where it is no such column.

    Args:
        kind: its Arrow type.
        sample: its first rows, chunked; None where they are not known.
    """
    import pyarrow as pa

    if not pa.types.is_struct(kind) or {field.name for field in kind} != {_BYTES, _PATH} or sample is None:
        return None
    return next((row[_BYTES] for row in sample.to_pylist() if row and row[_BYTES]), b"")


def content_of(row: Any, name: str, thing: str) -> bytes:
    """Return the file of a row.

    Args:
        row: its value, a dict or None.
        name: name of the row, for messages.
        thing: what the file should be, such as `image`.

    Raises:
        InputError: there is none.
    """
    content: bytes | None = row and row[_BYTES]
    if not content:
        path = row and row[_PATH]
        where = f", only the path {path!r}: embed the files when the data set is saved" if path else ""
        raise InputError(f"{name} holds no {thing}{where}")
    return content
