"""What a published model is run on, and what its own library answers: one `Case`, and the comparison with it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet

Answer = dict[str, list[np.ndarray]]  # by the name of the output, an array for each row

NPY = "predictions"  # the one output of an .npy file


@dataclass(frozen=True)
class Case:
    """One job of a published model.

    `options` are those of `runner.predict`. `expected` is what the model's own library answers; where it is missing,
    the job must be refused with `refusal` in the message. `tolerance` is the largest difference that counts as equal.
    """

    model: str
    package: str
    rows: str
    library: str
    options: dict[str, Any]
    expected: Answer = field(default_factory=dict)
    tolerance: float = 0.0
    refusal: str = ""

    @property
    def suffix(self) -> str:
        """Return the suffix of the output: .npy holds a single array, and .parquet whatever else."""
        return ".npy" if list(self.expected) in ([NPY], []) else ".parquet"


def array(predictions: Any) -> Answer:
    """Return the one array or tensor `(rows, ...)` that a library answers, row by row."""
    return {NPY: list(np.asarray(predictions))}


def read(path: Path) -> Answer:
    """Read the predictions of a job, an .npy or a .parquet file."""
    if path.suffix == ".npy":
        return array(np.load(path))
    table = pyarrow.parquet.read_table(path)
    return {name: [np.array(row) for row in table[name].to_pylist()] for name in table.column_names}


def difference(expected: Answer, found: Answer) -> float:
    """Return the largest difference of any number, relative to the largest number of its output where that exceeds 1.

    Raises:
        ValueError: outputs, rows or items are missing or too many.
    """
    if sorted(expected) != sorted(found):
        raise ValueError(f"outputs {list(found)}, not {list(expected)}")
    largest = 0.0
    for name, rows in expected.items():
        if len(rows) != len(found[name]):
            raise ValueError(f"{len(found[name])} rows of {name}, not {len(rows)}")
        scale = max(1.0, *(float(np.abs(row).max()) for row in rows if row.size))
        for number, (row, other) in enumerate(zip(rows, found[name], strict=True)):
            if row.size != other.size:
                raise ValueError(f"row {number} of {name} has shape {other.shape}, not {row.shape}")
            gap = np.abs(row.ravel().astype(np.float64) - other.ravel().astype(np.float64)) / scale
            largest = max(largest, float(gap.max(initial=0.0)))
            if not np.isfinite(largest):
                raise ValueError(f"row {number} of {name} has numbers that are not finite")
    return largest
