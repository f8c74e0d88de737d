"""What a model gives for a batch: one tensor, or several by name, which are kept side by side in each row."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from runner.errors import ModelError
from runner.rows import RowType
from runner.transfer import map_tensors

Outputs = torch.Tensor | dict[str, torch.Tensor]


def as_outputs(found: Any) -> Outputs:
    """A tensor, or tensors by name, of what a model may give: those, arrays, mappings, dataclasses, tuples and lists.

    Items without a name get their number as one; None counts as not there; of one item alone no name is kept.

    Raises:
        ModelError: there is something else in it.
    """
    if (tensor := _as_tensor(found)) is not None:
        return tensor
    items: Mapping[Any, Any] = {}
    if isinstance(found, Mapping):
        items = found
    elif dataclasses.is_dataclass(found):
        items = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    elif isinstance(found, tuple | list):
        items = dict(zip(getattr(found, "_fields", range(len(found))), found, strict=True))
    tensors = {str(name): _as_tensor(item) for name, item in items.items() if item is not None}
    outputs = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    if not outputs or len(outputs) < len(tensors):
        others = {name: type(items[name]).__name__ for name in items if str(name) in tensors.keys() - outputs.keys()}
        what = f"{type(found).__name__} with {_in_words(others)}" if others else type(found).__name__
        raise ModelError(
            f"the model gave a {what}; tensors are needed, one or several by name. Choose them with "
            "--postprocess module:function"
        )
    return outputs if len(outputs) > 1 else next(iter(outputs.values()))


def row_type_of(outputs: Outputs) -> RowType:
    """The shape and dtype of a row; of several outputs a dtype with a field for each.

    Raises:
        ModelError: NumPy has no dtype for one of them.
    """
    if isinstance(outputs, torch.Tensor):
        return RowType(tuple(outputs.shape[1:]), _stored_dtype(outputs))
    fields = [(name, _stored_dtype(tensor), tuple(tensor.shape[1:])) for name, tensor in outputs.items()]
    return RowType((), np.dtype(fields))


def copy_out(outputs: Outputs, rows: np.ndarray) -> None:
    """Copy predictions from their device into rows in memory, even on the CPU: a model may use its output again."""
    if isinstance(outputs, torch.Tensor):
        torch.from_numpy(rows).copy_(outputs)
        return
    for name, tensor in outputs.items():
        rows[name] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()


def join(parts: Sequence[Outputs]) -> Outputs:
    """The rows of several outputs of one kind, one after another, on the CPU."""
    parts = [on_cpu(part) for part in parts]
    if isinstance(parts[0], torch.Tensor):
        return torch.cat([part for part in parts if isinstance(part, torch.Tensor)])
    named = [part for part in parts if isinstance(part, dict)]
    return {name: torch.cat([part[name] for part in named]) for name in parts[0]}


def on_cpu(outputs: Outputs) -> Outputs:
    """The same, on the CPU."""
    moved: Outputs = map_tensors(outputs, torch.Tensor.cpu)
    return moved


def _as_tensor(found: Any) -> torch.Tensor | None:
    if isinstance(found, torch.Tensor):
        return found
    if isinstance(found, np.ndarray) and found.dtype.kind in "biufc":
        return torch.from_numpy(found.copy())
    return None


def _stored_dtype(output: torch.Tensor) -> np.dtype[Any]:
    """How predictions are kept: as they are, but bfloat16, which NumPy lacks, as float32, which holds it exactly."""
    if output.dtype == torch.bfloat16:
        return np.dtype(np.float32)
    try:
        return torch.empty(0, dtype=output.dtype).numpy().dtype
    except TypeError as error:
        raise ModelError(
            f"the model gives {output.dtype}, which NumPy cannot hold; convert it with --postprocess"
        ) from error


def _in_words(others: Mapping[Any, str]) -> str:
    return ", ".join(f"a {kind} as {name!r}" for name, kind in others.items())
