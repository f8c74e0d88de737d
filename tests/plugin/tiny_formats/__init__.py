"""A package that adds a source, a sink and a kind of model: numbers in text, a row a line."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from runner.core.checksum import checksum
from runner.data.columns import Columns
from runner.data.rows import RowType
from runner.sources import DataSpec


class TinySource:
    """Rows of numbers, `(columns,)` float32.

    Args:
        spec: the file, which has no columns to choose from.
    """

    def __init__(self, spec: DataSpec) -> None:
        spec.refuse_names()
        self._rows = np.loadtxt(spec.path, np.float32, ndmin=2)
        self._stamp = str(Path(spec.path).stat().st_mtime_ns)
        self.num_rows = len(self._rows)
        self.row_type = RowType(self._rows.shape[1:], self._rows.dtype)
        self.row_bytes = self.row_type.row_bytes

    def read(self, start: int, stop: int) -> np.ndarray:
        return self._rows[start:stop].copy()

    def digest(self) -> str:
        return checksum(self._rows)

    def stamp(self) -> str:
        return self._stamp


class TinyWriter:
    """A line a row.

    Args:
        path: the file.
        types: of its columns, by name.
        num_rows: how many rows it is to hold.
    """

    @staticmethod
    def check(output: str, types: Mapping[str, RowType]) -> None:
        """Take any rows of numbers."""

    def __init__(self, path: str, types: Mapping[str, RowType], num_rows: int) -> None:
        self._file = open(path, "w")  # noqa: SIM115

    def write(self, columns: Columns) -> None:
        (rows,) = columns.values()
        np.savetxt(self._file, rows, fmt="%.9g")

    def close(self) -> None:
        self._file.close()


def load(path: str, plus: float = 0.0) -> torch.nn.Module:
    """A linear layer whose weights are JSON in a file."""
    weights = torch.tensor(json.loads(Path(path).read_text()))
    layer = torch.nn.Linear(weights.shape[1], weights.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weights)
        layer.bias.fill_(plus)
    return layer
