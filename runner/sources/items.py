"""Conversion of the items of a PyTorch data set: columns as arrays, and the type that most items have."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from runner.data.rows import RAGGED, TEXT, Column, RowType, ragged
from runner.sources.base import check_dtype

ONE = ""  # column name for items that are a single value


def columns_of(item: Any) -> dict[str, np.ndarray]:
    """Return an item as arrays by name, in memory of their own; text as the 1-D array of its bytes.

    Raises:
        TypeError: a value is neither numbers nor text.
        ValueError: lists of numbers have different lengths.
    """
    if isinstance(item, Mapping):
        return {str(name): _as_array(value) for name, value in item.items()}
    if isinstance(item, tuple | list):
        names = getattr(item, "_fields", range(len(item)))
        return {str(name): _as_array(value) for name, value in zip(names, item, strict=True)}
    return {ONE: _as_array(item)}


def type_of_items(values: Sequence[np.ndarray], what: str) -> RowType:
    """Return the most common dtype and shape, RAGGED for 1-D values of several lengths; float64 where there are none.

    Raises:
        InputError: torch cannot hold the dtype.
    """
    if not values:
        return RowType((), np.dtype(np.float64))
    dtype = Counter(value.dtype for value in values).most_common(1)[0][0]
    if dtype == TEXT:
        return RowType(RAGGED, TEXT)
    check_dtype(dtype, what)
    shapes = Counter(value.shape for value in values if value.dtype == dtype)
    shape = shapes.most_common(1)[0][0]
    if len(shape) == 1 and sum(len(other) == 1 for other in shapes) > 1:
        shape = RAGGED
    return RowType(shape, dtype)


def fits(value: np.ndarray, row_type: RowType) -> bool:
    """Return whether a value has the shape and dtype of a row type."""
    alike = value.ndim == 1 if row_type.shape == RAGGED else value.shape == row_type.shape
    return alike and value.dtype == row_type.dtype


def describe_item(value: np.ndarray) -> str:
    """Describe the type of a value."""
    return "text" if value.dtype == TEXT else f"{value.dtype} {value.shape}"


def as_column(values: Sequence[np.ndarray], row_type: RowType) -> Column:
    """Return values that fit the row type as a column."""
    if row_type.shape == RAGGED:
        return ragged(values, row_type.dtype)
    return np.stack(values) if values else np.empty((0, *row_type.shape), row_type.dtype)


def _as_array(value: Any) -> np.ndarray:
    if isinstance(value, str):
        return np.frombuffer(value.encode(), TEXT)
    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
        # NumPy has no bfloat16; float32 represents its values exactly
        as_array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).resolve_conj().resolve_neg().numpy()
    elif isinstance(value, np.ndarray | np.generic | bool | int | float | complex | list | tuple):
        as_array = np.asarray(value)
    else:
        raise TypeError(
            f"a {type(value).__name__} is neither a tensor, an array, a number nor text; the data set needs a "
            "transform that makes it one"
        )
    if as_array.dtype.kind in "OSUV" and as_array.dtype.names is None:
        raise TypeError(f"a {type(value).__name__} of dtype {as_array.dtype} is neither numbers nor text")
    return np.array(as_array, as_array.dtype.newbyteorder("="), order="C")  # a copy: the data set may reuse its memory
