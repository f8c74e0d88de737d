"""Cuts of rows into batches, from a number for each row. Knows no data."""

import numpy as np


def cut_by_length(lengths: np.ndarray, batch_size: int, call_length: float, most: int | None = None) -> list[int]:
    """Cut rows for the least time, where a call takes as long as its padded length and `call_length` more.

    Args:
        lengths: `(rows,)`, lengths of the rows, the longest first; a batch is padded to its first.
        batch_size: the most rows of a batch.
        call_length: the cost of a call by itself, in the unit of lengths.
        most: the greatest padded length of a batch (its rows times its longest); a longer row is alone. None for any.

    Returns:
        The position of each batch's first row; of equally good cuts, the one with the largest first batches.
    """
    num_rows = len(lengths)
    best = np.zeros(num_rows + 1)  # for the rows from each position on
    stops = np.zeros(num_rows, np.int64)
    sizes = np.arange(1, batch_size + 1)
    for start in range(num_rows - 1, -1, -1):
        stop = min(start + batch_size, num_rows)
        padded = float(lengths[start]) * sizes[: stop - start]
        costs = best[start + 1 : stop + 1] + padded + call_length
        if most is not None:
            costs[1:][padded[1:] > most] = np.inf
        size = len(costs) - int(np.argmin(costs[::-1]))
        best[start] = costs[size - 1]
        stops[start] = start + size
    return _follow(stops)


def cut_by_cost(costs: np.ndarray, batch_size: int, budget: float) -> list[int]:
    """Cut rows into batches in their order, each as large as possible.

    Args:
        costs: `(rows,)`, costs of the rows.
        batch_size: the most rows of a batch.
        budget: the most that the rows of a batch may cost together; a row that costs more is alone.

    Returns:
        The position of each batch's first row.
    """
    starts: list[int] = []
    spent = 0.0
    for row, cost in enumerate(costs.tolist()):
        if not starts or row - starts[-1] == batch_size or spent + cost > budget:
            starts.append(row)
            spent = 0.0
        spent += cost
    return starts


def _follow(stops: np.ndarray) -> list[int]:
    starts = []
    row = 0
    while row < len(stops):
        starts.append(row)
        row = int(stops[row])
    return starts
