"""Padding of batches that are too short for a model, and removal of the padding from its outputs."""

from typing import Any

import torch


def fill(value: Any, num_rows: int, size: int) -> Any:
    """Return an argument padded with copies of its last row to `size` rows, if its first axis is the rows."""
    if isinstance(value, torch.Tensor) and value.ndim and len(value) == num_rows:
        return torch.cat([value, value[-1:].expand(size - num_rows, *value.shape[1:])])
    if isinstance(value, list) and len(value) == num_rows:
        return value + value[-1:] * (size - num_rows)
    return value


def cut(output: Any, num_rows: int, size: int) -> Any:
    """Return an output without the results of padding rows, if its first axis is the rows."""
    if isinstance(output, dict):
        return {name: cut(value, num_rows, size) for name, value in output.items()}
    if isinstance(output, torch.Tensor):
        return output[:num_rows] if output.ndim and len(output) == size else output
    if isinstance(output, list) and output and isinstance(output[0], str):
        return output[:num_rows]
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return type(output)(*(cut(value, num_rows, size) for value in output))
    if isinstance(output, list | tuple):
        return type(output)(cut(value, num_rows, size) for value in output)
    return output
