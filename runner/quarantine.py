"""Bad rows: which rows of a batch make it fail, and what the others give. Knows nothing of ranks or files."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from runner.batch import Inference
from runner.errors import InputError, ModelError
from runner.sources import Source

_TRACEBACK_LINES = 6


@dataclass(frozen=True)
class BadRow:
    """A row that fails alone, too."""

    row: int
    error: str
    traceback: str


# What to do when rows `first..last` fail together: raise, or give the predictions of the batch (None where no row has
# any) and its bad rows.
Rescue = Callable[[int, int, InputError], tuple[torch.Tensor | None, list[BadRow]]]


def fill_value(dtype: np.dtype[Any]) -> Any:
    """What stands in the output for a bad row: NaN, -1, the largest unsigned number, or False."""
    if dtype.kind in "fc":
        return np.nan
    if dtype.kind == "u":
        return np.iinfo(dtype).max
    return False if dtype.kind == "b" else -1


class Bisection:
    """Finds the rows at which a batch fails by halving it: about `2 k log2(n / k)` calls of the model for k of n rows.

    Args:
        source: where the rows are.
        inference: the way of a batch.
        known_good_row: a row that has worked before, None where there was none.
    """

    def __init__(self, source: Source, inference: Inference, known_good_row: int | None) -> None:
        self._source, self._inference, self._known_good_row = source, inference, known_good_row

    def name_the_row(self, first: int, last: int, error: InputError) -> tuple[torch.Tensor | None, list[BadRow]]:
        """The rescue of `--on-error stop`: raises the error of the first bad row, where it is the row's own."""
        _, bad = self._find_bad(first, last)
        if not bad:
            raise error
        raise bad[min(bad)]

    def set_aside(self, first: int, last: int, error: InputError) -> tuple[torch.Tensor | None, list[BadRow]]:
        """The rescue of `--on-error quarantine`.

        The other rows are computed once more in a batch of the same size, in which a good row stands for each bad one:
        so they get the very bytes that they would have had.

        Raises:
            InputError: the rows work one by one but not together, or not even the row works that had worked before.
        """
        rows, bad = self._find_bad(first, last)
        good = [row for row in range(first, last) if row not in bad]
        found = [BadRow(row, why.message, _short(why.details)) for row, why in sorted(bad.items())]
        if not bad:
            raise error
        if good:
            for row in bad:
                rows[row - first] = rows[good[0] - first]
            return self._compute(rows, first), found
        if self._known_good_row is not None:
            try:
                self._compute(self._source.read(self._known_good_row, self._known_good_row + 1), self._known_good_row)
            except InputError as again:
                raise ModelError(
                    f"every row of {first}..{last} fails, and so does row {self._known_good_row}, which had worked: "
                    f"it is not the rows. {again.message}",
                    again.details,
                ) from again
        return None, found

    def _find_bad(self, first: int, last: int) -> tuple[np.ndarray, dict[int, InputError]]:
        rows = np.zeros((last - first, *self._source.row_shape), self._source.dtype)
        bad: dict[int, InputError] = {}
        for row in range(first, last):
            try:
                rows[row - first] = self._source.read(row, row + 1)[0]
            except InputError as error:
                bad[row] = error
        self._search([row for row in range(first, last) if row not in bad], rows, first, bad)
        return rows, bad

    def _search(self, candidates: list[int], rows: np.ndarray, first: int, bad: dict[int, InputError]) -> None:
        if not candidates:
            return
        try:
            self._compute(rows[[row - first for row in candidates]], candidates[0])
        except InputError as error:
            if len(candidates) == 1:
                bad[candidates[0]] = error
                return
            half = len(candidates) // 2
            self._search(candidates[:half], rows, first, bad)
            self._search(candidates[half:], rows, first, bad)

    def _compute(self, rows: np.ndarray, first: int) -> torch.Tensor:
        return self._inference.forward(self._inference.prepare(rows, first), first, len(rows))


def _short(details: str) -> str:
    return "\n".join(details.splitlines()[-_TRACEBACK_LINES:])
