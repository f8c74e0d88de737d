"""Texts to token ids by a tokenizer of Transformers, which counts what it cuts off."""

from collections.abc import Callable, Sequence
from typing import Any

from runner.data.tensors import Tokens


class Encoder:
    """A tokenizer and its limit.

    The texts whose lengths were asked for last are remembered, so that a chunk goes through the tokenizer once and at
    once: batches are cut by its lengths, and padded from what is remembered.

    Args:
        tokenizer: of Transformers; the side on which it cuts and pads is its own setting.
        max_length: of a row in tokens, special ones included; None for no limit.
    """

    def __init__(self, tokenizer: Any, max_length: int | None) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        self._known: dict[tuple[str, ...], int] = {}
        self._encoded: dict[str, list[Any]] = {}
        # the library says that padding of its own, in the same call, is faster; here the batches are known only later
        getattr(tokenizer, "deprecation_warnings", {})["Asking-to-pad-a-fast-tokenizer"] = True

    def lengths(self, *texts: list[str]) -> list[int]:
        """The tokens of each row, as far as they are not cut off."""
        self._encoded = self._encode(*texts)
        self._known = {row: index for index, row in enumerate(zip(*texts, strict=True))}
        return [len(ids) for ids in self._encoded["input_ids"]]

    def __call__(self, *texts: list[str]) -> Tokens:
        """The model's arguments for a batch, padded to its longest row: `(batch, longest)`, int64."""
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
        found = self.tokenizer(*([column[row] for row in rows] for column in texts))["input_ids"]
        return [len(ids) for ids in found]


def lost_tokens(kept: Sequence[int], limit: int | None, full_lengths: Callable[[list[int]], list[int]]) -> list[int]:
    """How many tokens of each row were cut off.

    Args:
        kept: the tokens of each row.
        limit: the most there may be; None for no limit.
        full_lengths: from the positions of rows to their tokens when nothing is cut off; asked only of those that are
            as long as the limit.
    """
    lost = [0] * len(kept)
    if limit is not None and (long := [row for row, length in enumerate(kept) if length >= limit]):
        for row, length in zip(long, full_lengths(long), strict=True):
            lost[row] = max(0, length - kept[row])
    return lost
