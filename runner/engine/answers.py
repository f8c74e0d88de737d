"""Answers of the canary in the record of a run's first job, by which a later job is seen to compute something else."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from runner.core.checksum import checksum
from runner.core.errors import InputError
from runner.data.columns import Columns, pack
from runner.data.rows import Column, Ragged
from runner.engine.deviation import TOLERANCE, deviation_of

_VALUES = 64  # of each column, at most, evenly chosen


def sample(columns: Columns, row: int) -> dict[str, Any]:
    """Return the canary's answers as JSON has them: a checksum of all, and some values of each column.

    Args:
        columns: the answers to a batch that repeats one row.
        row: number of that row.
    """
    return {
        "row": row,
        "checksum": checksum(pack(columns)),
        "sizes": {name: _flat(column).size for name, column in columns.items()},
        "values": {name: _plain(_chosen(column)) for name, column in columns.items()},
    }


def compare(former: Mapping[str, Any], columns: Columns, row: int) -> str:
    """Compare the answers with a former job's `sample`; return how they differ, in words, where that is rounding.

    Raises:
        InputError: they differ by more.
    """
    if former.get("row") != row or former.get("checksum") == checksum(pack(columns)):
        return ""
    most = max(_deviation(former, name, column) for name, column in columns.items())
    if most <= TOLERANCE:
        return (
            f"row {row} is answered as in the first job of this run but for {most:.1g} of the largest value: another "
            "processor, GPU, number of threads or library version rounds otherwise"
        )
    raise InputError(
        f"row {row} is not answered as in the first job of this run: off by {most:.2g} of the largest value. The rows "
        "computed so far would not fit to the rest. Something that decides the answers has changed: code that is "
        "imported, a library, an environment variable or a file that the model reads. Restore it to resume, or give "
        "--fresh to discard the run and start over"
    )


def _deviation(former: Mapping[str, Any], name: str, column: Column) -> float:
    chosen = _chosen(column)
    known = _from_plain(former.get("values", {}).get(name), chosen.dtype)
    if known is None or former.get("sizes", {}).get(name) != _flat(column).size:
        return float("inf")
    return deviation_of(chosen, known)


def _flat(column: Column) -> np.ndarray:
    return (column.values if isinstance(column, Ragged) else column).reshape(-1)


def _chosen(column: Column) -> np.ndarray:
    flat = _flat(column)
    return flat[np.linspace(0, len(flat) - 1, min(len(flat), _VALUES)).astype(np.int64)]


def _plain(values: np.ndarray) -> list[Any]:
    if values.dtype.kind in "SV":
        values = values.view(np.uint8)
    if values.dtype.kind == "c":
        return [[float(value.real), float(value.imag)] for value in values]
    found: list[Any] = values.tolist()
    return found


def _from_plain(values: Any, dtype: np.dtype[Any]) -> np.ndarray | None:
    try:
        if dtype.kind in "SV":
            return np.array(values, np.uint8).view(dtype)
        if dtype.kind == "c":
            return np.array([complex(*pair) for pair in values], dtype)
        return np.array(values, dtype)
    except (TypeError, ValueError, OverflowError):
        return None
