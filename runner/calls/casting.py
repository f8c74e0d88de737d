"""Casts of tensors to the dtype that a model declares, without loss."""

from collections.abc import Sequence

import torch

from runner.calls.signature import name_of_dtype
from runner.core.errors import ModelError
from runner.data.rows import name_rows

_HALVES = (torch.float16, torch.bfloat16)
_EXACT_INTEGERS = {torch.float16: 1 << 11, torch.bfloat16: 1 << 8, torch.float32: 1 << 24, torch.float64: 1 << 53}


def cast(
    tensor: torch.Tensor, dtype: torch.dtype, what: str, ids: Sequence[int], allowed: str | None = None
) -> torch.Tensor:
    """Return the values of a tensor in another dtype.

    Whole numbers and bool must keep their value. float64 is rounded to float32, as everywhere in the field, but not to
    infinity; anything is rounded to float16 or bfloat16 only if that is `allowed`.

    Args:
        tensor: rows `(rows, ...)`, or a single value.
        dtype: the new dtype.
        what: the input, for messages.
        ids: numbers of the rows; empty if the tensor does not hold rows.
        allowed: float16 or bfloat16, if floating-point numbers may be rounded to it.

    Raises:
        ModelError: a value would be lost; the message names the first row where it would.
    """
    if tensor.dtype == dtype:
        return tensor
    wanted = name_of_dtype(dtype)
    name = name_of_dtype(tensor.dtype)
    if tensor.is_floating_point():
        if not dtype.is_floating_point:
            raise ModelError(f"{what} takes {wanted}, not {name}: floating-point rows are not rounded to integers")
        if dtype in _HALVES and wanted != allowed:
            raise ModelError(f"{what} takes {wanted}, and {name} loses digits in it; allow it with --dtype {wanted}")
        result = tensor.to(dtype)
        _require(torch.isfinite(result) | ~torch.isfinite(tensor), tensor, what, wanted, ids)
        return result
    if tensor.is_complex() or dtype.is_complex:
        raise ModelError(f"{what} takes {wanted}, not {name}")
    if dtype.is_floating_point:
        limit = _EXACT_INTEGERS.get(dtype)
        if limit is None:
            raise ModelError(f"{what} takes {wanted}, not {name}")
        wide = tensor.to(torch.int64)
        in_range = (wide <= limit) & (wide >= -limit) & (_is_negative(tensor) == (wide < 0))
        _require(in_range, tensor, what, wanted, ids)
        return tensor.to(dtype)
    result = tensor.to(dtype)
    back = result.to(tensor.dtype)
    _require((back == tensor) & (_is_negative(result) == _is_negative(tensor)), tensor, what, wanted, ids)
    return result


def _is_negative(tensor: torch.Tensor) -> torch.Tensor:
    return tensor < 0 if tensor.dtype.is_signed else torch.zeros(tensor.shape, dtype=torch.bool, device=tensor.device)


def _require(fits: torch.Tensor, tensor: torch.Tensor, what: str, wanted: str, ids: Sequence[int]) -> None:
    """Raise ModelError if a value does not fit, naming the first such value and its row."""
    if bool(fits.all()):
        return
    where = (~fits).reshape(-1).nonzero()[0, 0].item()
    value = tensor.reshape(-1)[int(where)].item()
    row = int(where) // max(1, tensor.numel() // max(1, len(tensor))) if tensor.ndim else 0
    place = f"{name_rows([ids[row]])}: " if row < len(ids) else ""
    raise ModelError(f"{place}{what} takes {wanted}, which cannot hold {value!r}. Convert the rows with --preprocess")
