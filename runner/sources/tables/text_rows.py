"""Rows of text from bytes."""

from collections.abc import Callable, Sequence

import numpy as np

from runner.core.errors import InputError
from runner.data.rows import TEXT, Ragged, ragged


def text_rows(contents: Sequence[bytes], first: int, name: Callable[[int], str]) -> Ragged:
    """Rows of these bytes.

    Args:
        contents: of each row.
        first: the number of the first row.
        name: what a row is called in messages.

    Raises:
        InputError: one of them is not UTF-8.
    """
    for index, content in enumerate(contents):
        try:
            content.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"{name(first + index)} is not text in UTF-8: {error.reason}") from error
    return ragged([np.frombuffer(content, TEXT) for content in contents], TEXT)
