"""Texts for a language model, made of the columns of a batch by a template."""

import string
from collections.abc import Callable, Sequence
from typing import Any

import torch

from runner.core.errors import UsageError
from runner.core.nearest import did_you_mean
from runner.data.tensors import is_text


def prompt_maker(template: str, columns: Sequence[str]) -> Callable[[Any], list[str]]:
    """Return a function from a batch, as `--preprocess` gets it, to a text for each row.

    Args:
        template: text with names of columns in braces; `{{` and `}}` stand for braces.
        columns: the columns that the function will get; empty where the only one has no name, and any stands for it.

    Raises:
        UsageError: the template is not valid, or names a column that there is not.
    """
    pieces = _parse(template)
    names = [name for _, name in pieces if name is not None]
    for name in names:
        if columns and name not in columns:
            raise UsageError(
                f"--prompt {template!r}: no column {name!r} among {', '.join(columns)}{did_you_mean(name, columns)}"
            )
    if not columns and not all(name.isidentifier() for name in names):
        raise UsageError(f"--prompt {template!r}: braces hold the name of a column and no more, such as {{text}}")
    if len(set(names)) > 1 and not columns:
        raise UsageError(f"--prompt {template!r} has {' and '.join(dict.fromkeys(names))}, and the data has one column")

    def make(batch: Any) -> list[str]:
        values = batch if isinstance(batch, dict) else dict.fromkeys(names, batch)
        texts = {name: _as_texts(values[name]) for name in names}
        return [
            "".join(text if name is None else text + texts[name][row] for text, name in pieces)
            for row in range(len(next(iter(texts.values()))))
        ]

    return make


def _parse(template: str) -> list[tuple[str, str | None]]:
    """Return the parts of a template: text, and the name of the column after it."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"--prompt {template!r}: {error}; {{{{ and }}}} stand for braces") from error
    for _, name, form, conversion in parts:
        if name is not None and (not name or form or conversion):
            raise UsageError(f"--prompt {template!r}: braces hold the name of a column and no more, such as {{text}}")
    if all(name is None for _, name, _, _ in parts):
        raise UsageError(f"--prompt {template!r} names no column in braces, such as {{text}}: all rows would be alike")
    return [(text, name) for text, name, _, _ in parts]


def _as_texts(column: Any) -> list[str]:
    if is_text(column):
        return list(column)
    if isinstance(column, torch.Tensor) and column.ndim == 1:
        return [str(value) for value in column.numpy()]  # with the digits that tell its numbers apart, not float64's
    return [f"[{', '.join(map(str, row.reshape(-1).numpy()))}]" for row in column]
