"""Rows of variable length in another order, without a step of Python for each."""

from collections.abc import Sequence

import numpy as np


def gather(
    values: np.ndarray, offsets: np.ndarray, indices: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the values and offsets of the rows `indices`, in this order, in memory of their own.

    Args:
        values: the rows, one after another along the first axis.
        offsets: 1-D, `(n + 1,)`, the start of each row in `values`, and the end of the last.
        indices: numbers of rows.
    """
    rows = np.asarray(indices, np.int64)
    starts, lengths = offsets[rows], offsets[rows + 1] - offsets[rows]
    new_offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
        return values[starts[0] : starts[0] + new_offsets[-1]].copy(), new_offsets
    places = np.repeat(starts - new_offsets[:-1], lengths) + np.arange(new_offsets[-1])
    return values[places], new_offsets
