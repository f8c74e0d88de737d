"""Rows of text from bytes."""

from collections.abc import Callable, Sequence

import numpy as np

from runner.core.errors import InputError
from runner.data.rows import TEXT, Ragged, ragged


def ragged_bytes(texts: Sequence[bytes]) -> Ragged:
    """Make rows of text from their bytes, of which nothing is checked."""
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    return Ragged(np.frombuffer(b"".join(texts), TEXT), offsets)


def text_rows(contents: Sequence[bytes], first: int, name: Callable[[int], str]) -> Ragged:
    """Convert UTF-8 bytes to rows of text.

    Args:
        contents: bytes of each row.
        first: number of the first row.
        name: returns the name of a row for messages.

    Raises:
        InputError: a row is not UTF-8.
    """
    for index, content in enumerate(contents):
        try:
            content.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"{name(first + index)} is not text in UTF-8: {error.reason}") from error
    return ragged([np.frombuffer(content, TEXT) for content in contents], TEXT)
