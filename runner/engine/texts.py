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
    """Texts of a batch that are cut or refused, and what the model counts in them, by the numbers of their rows.

    Attributes:
        lost: number of tokens cut off, where a text was longer than the model takes.
        limit: the most tokens a row may have; 0 where nothing was cut.
        refused: why a row is answered with an error; nothing for other rows.
        counts: what the model counts, such as tokens, by name and row; filled in when the model is called.
    """

    lost: Mapping[int, int] = field(default_factory=dict)
    limit: int = 0
    refused: Mapping[int, str] = field(default_factory=dict)
    counts: dict[str, dict[int, int]] = field(default_factory=dict)

    def joined(self, other: "Cut") -> "Cut":
        """Return the rows of both."""
        counts = {
            name: {**self.counts.get(name, {}), **other.counts.get(name, {})} for name in self.counts | other.counts
        }
        return Cut({**self.lost, **other.lost}, max(self.limit, other.limit), {**self.refused, **other.refused}, counts)


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
    refused = {row: why for row, why in zip(ids, tokens.refused, strict=False) if why}
    if not lost or tokens.limit is None:
        return Cut(refused=refused)
    if refuses:
        row = min(lost)
        raise InputError(
            f"row {row}: its text has {tokens.limit + lost[row]:,} tokens, and the model takes {tokens.limit:,}. "
            "It is not cut: shorten it, quarantine it with --on-error quarantine, or cut it with --truncate left or "
            "right"
        )
    return Cut(lost, tokens.limit, refused)


def count(model: Any, cut: Cut, ids: Sequence[int]) -> None:
    """Add what a model has counted in its last batch; rows that only fill it come last."""
    counts = model.take_counts() if hasattr(model, "take_counts") else {}
    for name, numbers in counts.items():
        cut.counts[name] = dict(zip(ids, numbers, strict=False))
