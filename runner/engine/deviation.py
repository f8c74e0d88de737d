"""Difference between two answers to the same rows."""

import numpy as np

from runner.data.rows import TEXT, Column, Ragged

TOLERANCE = 0.02  # relative to the largest value: more than rounding error, even in bfloat16


def deviation_of(answer: Column, reference: Column) -> float:
    """Return the largest difference, relative to the largest value of the reference; infinite if only one is finite."""
    if isinstance(answer, Ragged) and isinstance(reference, Ragged):
        if not np.array_equal(answer.offsets, reference.offsets):
            return float("inf")
        answer, reference = answer.values, reference.values
    assert isinstance(answer, np.ndarray)
    assert isinstance(reference, np.ndarray)
    if answer.tobytes() == reference.tobytes():
        return 0.0
    if reference.dtype == TEXT:
        return float("inf")
    wide = np.complex128 if reference.dtype.kind == "c" else np.float64
    found, expected = answer.astype(wide), reference.astype(wide)
    finite = np.isfinite(expected)
    if not np.array_equal(found[~finite], expected[~finite], equal_nan=True):
        return float("inf")
    difference = float(np.abs(found[finite] - expected[finite]).max(initial=0.0))
    scale = float(np.abs(expected[finite]).max(initial=0.0))
    if np.isnan(difference) or (difference and not scale):
        return float("inf")
    return difference / scale if difference else 0.0
