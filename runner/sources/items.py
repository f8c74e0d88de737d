"""What an item of a data set of PyTorch holds: its columns as arrays, and the type that most of these are of. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from runner.data.rows import RAGGED, TEXT, Column, RowType, ragged
from runner.sources import check_dtype

ONE = ""  # the name of the column of items that are one thing alone


def columns_of(item: Any) -> dict[str, np.ndarray]:
    """An item as arrays of their own by name; text as 1-D of its bytes.

    Raises:
        TypeError: there is something in it that is neither numbers nor text.
        ValueError: numbers are in lists of unlike lengths.
    """
    if isinstance(item, Mapping):
        return {str(name): _as_array(value) for name, value in item.items()}
    if isinstance(item, tuple | list):
        names = getattr(item, "_fields", range(len(item)))
        return {str(name): _as_array(value) for name, value in zip(names, item, strict=True)}
    return {ONE: _as_array(item)}


def type_of_items(values: Sequence[np.ndarray], what: str) -> RowType:
    """The dtype and shape of most of the values, RAGGED where they are 1-D and not all as long; float64 of none.

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
    """Whether a value is of a type."""
    alike = value.ndim == 1 if row_type.shape == RAGGED else value.shape == row_type.shape
    return alike and value.dtype == row_type.dtype


def in_words(value: np.ndarray) -> str:
    """A value's type."""
    return "text" if value.dtype == TEXT else f"{value.dtype} {value.shape}"


def as_column(values: Sequence[np.ndarray], row_type: RowType) -> Column:
    """Values that fit, as a column."""
    if row_type.shape == RAGGED:
        return ragged(values, row_type.dtype)
    return np.stack(values) if values else np.empty((0, *row_type.shape), row_type.dtype)


def _as_array(value: Any) -> np.ndarray:
    if isinstance(value, str):
        return np.frombuffer(value.encode(), TEXT)
    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
        # NumPy knows no bfloat16, of which float32 holds every number
        found = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).resolve_conj().resolve_neg().numpy()
    elif isinstance(value, np.ndarray | np.generic | bool | int | float | complex | list | tuple):
        found = np.asarray(value)
    else:
        raise TypeError(
            f"a {type(value).__name__} is neither a tensor, an array, a number nor text; the data set needs a "
            "transform that makes it one"
        )
    if found.dtype.kind in "OSUV" and found.dtype.names is None:
        raise TypeError(f"a {type(value).__name__} of dtype {found.dtype} is neither numbers nor text")
    return np.array(found, found.dtype.newbyteorder("="), order="C")  # the data set may use its memory again
