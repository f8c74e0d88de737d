"""Batches of text, and the tokens that a tokenizer cuts off their rows. Knows no model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.core.errors import InputError, ModelError
from runner.core.text import plural
from runner.data.rows import name_rows
from runner.data.tensors import Tokens, is_text


@dataclass(frozen=True)
class Cut:
    """The rows of a batch whose text was longer than the model takes.

    Attributes:
        lost: number of tokens cut off, by the number of the row.
        limit: the most tokens a row may have; 0 where nothing was cut.
    """

    lost: Mapping[int, int] = field(default_factory=dict)
    limit: int = 0

    def joined(self, other: "Cut") -> "Cut":
        """Return the cut rows of both."""
        return Cut({**self.lost, **other.lost}, max(self.limit, other.limit))


def text_columns(inputs: Any) -> list[list[str]] | None:
    """Return the columns of a batch that is only text: a list of strings, or a tuple or dict of these; else None."""
    columns = list(inputs.values()) if isinstance(inputs, dict) else inputs if isinstance(inputs, tuple) else [inputs]
    return list(columns) if columns and all(is_text(column) for column in columns) else None


def check_num_texts(columns: Sequence[list[str]], ids: Sequence[int]) -> None:
    """Raise ModelError unless each column that --preprocess returned has one text per row."""
    for column in columns:
        if len(column) != len(ids):
            raise ModelError(
                f"--preprocess gave {plural(len(column), 'text')} for {name_rows(ids)}: one per row is needed"
            )


def tokenized(inputs: Any, tokenize_texts: Callable[..., Tokens] | None, ids: Sequence[int]) -> Any:
    """Return the result of --preprocess, with text as `Tokens` where the model has a tokenizer."""
    texts = text_columns(inputs) if tokenize_texts else None
    if tokenize_texts is None or texts is None:
        return inputs
    check_num_texts(texts, ids)
    return tokenize_texts(*texts)


def find_cut(tokens: Tokens, ids: Sequence[int], refuses: bool) -> Cut:
    """Return the cut of a tokenizer: the rows among `ids` that have lost tokens.

    Raises:
        InputError: a text was cut, and `refuses` forbids it.
    """
    lost = {row: number for row, number in zip(ids, tokens.lost, strict=True) if number}
    if not lost or tokens.limit is None:
        return Cut()
    if refuses:
        row = min(lost)
        raise InputError(
            f"row {row}: its text has {tokens.limit + lost[row]:,} tokens, and the model takes {tokens.limit:,}. "
            "It is not cut: shorten it, quarantine it with --on-error quarantine, or cut it with --truncate left or "
            "right"
        )
    return Cut(lost, tokens.limit)
