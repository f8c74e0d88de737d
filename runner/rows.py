"""Rows in memory: an array whose first axis they are, or rows of unlike lengths. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from runner.checksum import checksum, checksum_of_text

_LEAST_FILLED = 0.8  # more makes many small batches; 0.9 twice as many of log-normal lengths, for 5 % less padding


@dataclass(frozen=True)
class Ragged:
    """Rows of unlike lengths.

    Attributes:
        values: 1-D, one row after another.
        offsets: 1-D int64, where each row begins, and the end of the last.
    """

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Of each row."""
        return np.diff(self.offsets)

    def tensors(self) -> list[torch.Tensor]:
        """Each row as a 1-D tensor; they share its memory."""
        return list(torch.split(torch.from_numpy(self.values), self.lengths.tolist()))


Rows = np.ndarray | Ragged


def dtype_to_json(dtype: np.dtype[Any]) -> Any:
    """A dtype as JSON can hold it: `numpy.lib.format`'s description, a list where it has fields."""
    return np.lib.format.dtype_to_descr(dtype)


def dtype_from_json(description: Any) -> np.dtype[Any]:
    """The dtype of a description that has been through JSON; raises TypeError or ValueError where it is none."""
    if isinstance(description, list):
        description = [tuple(tuple(item) if isinstance(item, list) else item for item in f) for f in description]
    found: np.dtype[Any] = np.dtype(description)
    return found


def take(rows: Rows, indices: Sequence[int] | np.ndarray) -> Rows:
    """Some of the rows, in the order asked for, in memory of their own."""
    if isinstance(rows, np.ndarray):
        return rows[np.asarray(indices, np.int64)]
    return concatenate([Ragged(rows.values[a:b], np.array([0, b - a])) for a, b in _bounds(rows, indices)])


def concatenate(parts: Sequence[Rows]) -> Rows:
    """All rows of the parts, at least one, which are of one kind."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate([part for part in parts if isinstance(part, np.ndarray)])
    ragged = [part for part in parts if isinstance(part, Ragged)]
    lengths = np.concatenate([part.lengths for part in ragged])
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    return Ragged(np.concatenate([part.values for part in ragged]), offsets)


def cuts_by_length(lengths: np.ndarray) -> list[int]:
    """Where to cut rows that are in order of length, so that at most a fifth of any of them is padding.

    Args:
        lengths: of the rows, the longest first.

    Returns:
        The positions of the first rows of all parts but the first.
    """
    cuts, longest = [], lengths[:1].max(initial=0)
    for position, length in enumerate(lengths.tolist()):
        if length < _LEAST_FILLED * longest:
            cuts.append(position)
            longest = length
    return cuts


def rows_checksum(rows: Rows) -> str:
    """The checksum of rows."""
    if isinstance(rows, np.ndarray):
        return checksum(rows)
    return checksum_of_text(f"{checksum(rows.values)} {checksum(rows.lengths)}")


def pad(batch: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of unlike lengths as one tensor `(batch, longest)`, filled up with 0, and a bool mask, True at its rows."""
    lengths = torch.tensor([len(row) for row in batch])
    padded = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]


def span(ids: Sequence[int]) -> tuple[int, int]:
    """The smallest `(first, last)` range that holds these rows; at once where they are one."""
    return (ids.start, ids.stop) if isinstance(ids, range) else (min(ids), max(ids) + 1)


def name_rows(ids: Sequence[int]) -> str:
    """Some rows of the data set, in words."""
    first, last = span(ids)
    if len(ids) == 1:
        return f"row {first}"
    return f"rows {first}..{last}" if last - first == len(ids) else f"{len(ids)} of the rows {first}..{last}"


def _bounds(rows: Ragged, indices: Sequence[int] | np.ndarray) -> list[tuple[int, int]]:
    return [(int(rows.offsets[index]), int(rows.offsets[index + 1])) for index in indices]
