"""Encoding of text as token ids by a tokenizer of Transformers, with a count of the tokens that are cut off."""

from collections.abc import Callable, Sequence
from typing import Any

from runner.data.tensors import Tokens


class Encoder:
    """A tokenizer with its length limit.

    The texts of the last call of `lengths` are cached, so that a chunk is tokenized once, in a single call: batches are
    formed by these lengths, and padded from the cache.

    Args:
        tokenizer: tokenizer of Transformers; it has settings of its own for the side on which it cuts and pads.
        max_length: the most tokens of a row, including special ones; None for no limit.
    """

    def __init__(self, tokenizer: Any, max_length: int | None) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self._known: dict[tuple[str, ...], int] = {}
        self._encoded: dict[str, list[Any]] = {}
        # the library advises padding in the same call, as it is faster; here batches are only known later
        getattr(tokenizer, "deprecation_warnings", {})["Asking-to-pad-a-fast-tokenizer"] = True

    def lengths(self, *texts: list[str]) -> list[int]:
        """Return the number of tokens of each row, at most `max_length`."""
        self._encoded = self._encode(*texts)
        self._known = {row: index for index, row in enumerate(zip(*texts, strict=True))}
        return [len(ids) for ids in self._encoded["input_ids"]]

    def __call__(self, *texts: list[str]) -> Tokens:
        """Return the model's arguments for a batch, padded to its longest row: `(batch, longest)`, int64."""
        rows = list(zip(*texts, strict=True))
        if all(row in self._known for row in rows):
            indices = [self._known[row] for row in rows]
            encoded = {name: [values[index] for index in indices] for name, values in self._encoded.items()}
        else:
            encoded = self._encode(*texts)
        kept = [len(ids) for ids in encoded["input_ids"]]
        lost = lost_tokens(kept, self.max_length, lambda long: self._full(texts, long))
        return Tokens(dict(self.tokenizer.pad(encoded, return_tensors="pt")), lost, self.max_length)

    def _encode(self, *texts: list[str]) -> dict[str, list[Any]]:
        return dict(self.tokenizer(*texts, truncation=self.max_length is not None, max_length=self.max_length))

    def _full(self, texts: Sequence[list[str]], rows: list[int]) -> list[int]:
        tokens = self.tokenizer(*([column[row] for row in rows] for column in texts))["input_ids"]
        return [len(ids) for ids in tokens]


def lost_tokens(kept: Sequence[int], limit: int | None, full_lengths: Callable[[list[int]], list[int]]) -> list[int]:
    """Return how many tokens of each row were cut off.

    Args:
        kept: number of tokens of each row.
        limit: the most tokens of a row; None for no limit.
        full_lengths: maps the positions of rows to their numbers of tokens without a limit; called only for rows that
            are as long as the limit.
    """
    lost = [0] * len(kept)
    if limit is not None and (long := [row for row, length in enumerate(kept) if length >= limit]):
        for row, length in zip(long, full_lengths(long), strict=True):
            lost[row] = max(0, length - kept[row])
    return lost
