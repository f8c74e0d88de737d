"""Casts of file tensors to a model's dtypes, and which of them are lossy; independent of names and files."""

import torch

_WIDER = {
    (torch.float16, torch.float32),
    (torch.float16, torch.float64),
    (torch.bfloat16, torch.float32),
    (torch.bfloat16, torch.float64),
    (torch.float32, torch.float64),
}


def why_lossy(tensor: torch.Tensor, dtype: torch.dtype, asked: str | None) -> str:
    """Explain why a tensor of a file must not be cast to the model's dtype; "" where it may.

    Args:
        tensor: tensor of the file.
        dtype: dtype of the model's tensor.
        asked: the dtype of `--dtype`, to which floating-point numbers may be rounded; None without the option.
    """
    is_floating = tensor.is_floating_point() and dtype.is_floating_point
    if is_exact(tensor, dtype) or (is_floating and asked == _name(dtype)):
        return ""
    why = f"is {_name(tensor.dtype)} in it and {_name(dtype)} in the model, which cannot hold its values exactly"
    if is_floating and asked is None:
        why += f". --dtype {_name(dtype)} rounds them; or let the factory build the model in {_name(tensor.dtype)}"
    return why


def is_exact(tensor: torch.Tensor, dtype: torch.dtype) -> bool:
    """Return whether a dtype represents every value of a tensor exactly."""
    if tensor.dtype == dtype or (tensor.dtype, dtype) in _WIDER:
        return True
    if tensor.is_complex() != dtype.is_complex or tensor.is_quantized or tensor.layout != torch.strided:
        return False
    try:
        back = tensor.to(dtype).to(tensor.dtype)
    except RuntimeError:  # there is no such conversion
        return False
    return bool(((back == tensor) | ((back != back) & (tensor != tensor))).all())


def are_equal(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors have the same dtype and values."""
    if tensor.data_ptr() == other.data_ptr() and tensor.stride() == other.stride() and tensor.shape == other.shape:
        return True
    return tensor.dtype == other.dtype and torch.equal(tensor, other)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
