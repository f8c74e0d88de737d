"""Predictions into an array in rank 0's memory, for callers from Python that ask for no output file."""

import numpy as np

from runner.rows import RowType


class MemorySink:
    """An array of shape `(num_rows, *row_type.shape)` in `rows`."""

    def __init__(self, num_rows: int, row_type: RowType) -> None:
        self.rows = np.empty((num_rows, *row_type.shape), row_type.dtype)

    def write(self, start: int, rows: np.ndarray) -> None:
        self.rows[start : start + len(rows)] = rows

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.rows[start:stop]

    def sync(self) -> None:
        pass

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass
