"""Outputs of a model for a batch: one, or several by name; each a tensor, variable-length rows, or text."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from runner.core.errors import ModelError, UsageError
from runner.core.text import plural
from runner.data.cell_types import json_dtype
from runner.data.columns import UNNAMED, joined, types_by_name
from runner.data.rows import RAGGED, TEXT, Column, Ragged, RowType, RowTypes, describe_type, name_rows
from runner.data.tensors import JsonList, JsonTensor, RaggedTensor, TextTensor, map_tensors

Output = torch.Tensor | RaggedTensor | TextTensor | JsonTensor
Outputs = Output | dict[str, Output]


def as_outputs(result: Any) -> Outputs:
    """Convert the result of a model to one output, or several by name.

    An output is a tensor or array, a nested tensor of PyTorch, whose rows may be of variable length, or a list of
    strings. Several are in a mapping, a dataclass, a tuple or a list; items without a name are named by their number;
    None counts as absent; a single item keeps no name.

    Raises:
        ModelError: the result holds anything else.
    """
    if (output := _as_output(result)) is not None:
        return output
    items: Mapping[Any, Any] = {}
    if isinstance(result, Mapping):
        items = result
    elif dataclasses.is_dataclass(result):
        items = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    elif isinstance(result, tuple | list):
        items = dict(zip(getattr(result, "_fields", range(len(result))), result, strict=True))
    converted = {str(name): _as_output(item) for name, item in items.items() if item is not None}
    outputs = {name: output for name, output in converted.items() if output is not None}
    if not outputs or len(outputs) < len(converted):
        others = {name: type(items[name]).__name__ for name in items if str(name) in converted.keys() - outputs.keys()}
        what = f"{type(result).__name__} with {_describe_items(others)}" if others else type(result).__name__
        raise ModelError(
            f"the model gave a {what}; tensors are needed, one or several by name. Choose them with --postprocess "
            "module:function"
        )
    return outputs if len(outputs) > 1 else next(iter(outputs.values()))


def named(outputs: Outputs) -> dict[str, Output]:
    """Return the outputs by name; a single one gets the name `UNNAMED`."""
    return outputs if isinstance(outputs, dict) else {UNNAMED: outputs}


def num_rows_of(output: Output) -> int | None:
    """Return the number of rows of an output; None where it has no axis for rows."""
    tensor = output if isinstance(output, torch.Tensor) else output.lengths
    return tensor.shape[0] if tensor.ndim else None


def row_type_of(outputs: Outputs) -> RowTypes:
    """Return the shape and dtype of a row: one, with a field for each of several outputs, if all are of fixed shape.

    Otherwise return the type of each output by name.

    Raises:
        ModelError: NumPy has no dtype for one of them.
    """
    if isinstance(outputs, torch.Tensor):
        return _type_of(outputs)
    return joined({name: _type_of(output) for name, output in named(outputs).items()})


def check_row_type(outputs: Outputs, row_type: RowTypes, kept: Sequence[str], ids: Sequence[int]) -> None:
    """Raise ModelError unless a batch of predictions has rows of this type, the passthrough columns `kept` left out."""
    value, expected = row_type_of(outputs), row_type
    if kept or not isinstance(row_type, RowType):
        value = types_by_name(value)
        expected = {name: column for name, column in types_by_name(row_type).items() if name not in kept}
    if value != expected:
        raise ModelError(
            f"the model gave {describe_type(value)} per row for {name_rows(ids)} and {describe_type(expected)} for the "
            "first row; every row must be of one shape and dtype"
        )


def with_kept(row_type: RowTypes, kept: Mapping[str, RowType]) -> RowTypes:
    """Return the type of a row of predictions with the passthrough columns before them.

    Raises:
        UsageError: an output has the name of a passthrough column.
    """
    if not kept:
        return row_type
    outputs = types_by_name(row_type)
    if both := kept.keys() & outputs.keys():
        raise UsageError(f"--keep {', '.join(both)}: the model gives outputs of the same name")
    return joined({**kept, **outputs})


def copy_out(outputs: Outputs, rows: np.ndarray) -> None:
    """Copy predictions from their device into rows in memory, even on the CPU: a model may use its output again."""
    if isinstance(outputs, torch.Tensor) and rows.dtype.names is None:
        torch.from_numpy(rows).copy_(outputs)
        return
    for name, column in as_columns(outputs).items():
        rows[name] = column


def as_columns(outputs: Outputs) -> dict[str, Column]:
    """Return predictions as columns by name, in memory of their own."""
    return {name: _as_column(output) for name, output in named(outputs).items()}


def join(parts: Sequence[Outputs]) -> Outputs:
    """Concatenate the rows of several outputs of one kind, on the CPU."""
    parts = [on_cpu(part) for part in parts]
    if not isinstance(parts[0], dict):
        return _join([part for part in parts if not isinstance(part, dict)])
    several = [part for part in parts if isinstance(part, dict)]
    return {name: _join([part[name] for part in several]) for name in parts[0]}


def on_cpu(outputs: Outputs) -> Outputs:
    """Return the outputs on the CPU."""
    moved: Outputs = map_tensors(outputs, torch.Tensor.cpu)
    return moved


def arrived(waiting: Any) -> Any:
    """Return outputs that hold functions instead of tensors with each function called."""
    if isinstance(waiting, dict):
        return {name: arrived(item) for name, item in waiting.items()}
    if isinstance(waiting, tuple):
        return type(waiting)(*(arrived(item) for item in waiting))
    call: Callable[[], torch.Tensor] = waiting
    return call()


def _as_output(value: Any) -> Output | None:
    if isinstance(value, torch.Tensor):
        return _unnest(value) if value.is_nested else value
    if isinstance(value, RaggedTensor | TextTensor | JsonTensor):
        return value
    if isinstance(value, JsonList):
        return JsonTensor(*_texts_as_tensors([b"" if text is None else b"\1" + text.encode() for text in value]))
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return torch.from_numpy(value.copy())
    if isinstance(value, list | np.ndarray) and len(value) and all(isinstance(item, str) for item in value):
        return TextTensor(*_texts_as_tensors([item.encode() for item in value]))
    return None


def _texts_as_tensors(encoded: Sequence[bytes]) -> tuple[torch.Tensor, torch.Tensor]:
    values = np.frombuffer(b"".join(encoded), np.uint8)
    return torch.from_numpy(values.copy()), torch.tensor([len(item) for item in encoded])


def _unnest(nested: torch.Tensor) -> RaggedTensor:
    rows = nested.unbind()
    return RaggedTensor(torch.cat(rows), torch.tensor([len(row) for row in rows]))


def _type_of(output: Output) -> RowType:
    if isinstance(output, torch.Tensor):
        return RowType(tuple(output.shape[1:]), _stored_dtype(output))
    if isinstance(output, TextTensor):
        return RowType(RAGGED, TEXT)
    if isinstance(output, JsonTensor):
        return RowType(RAGGED, json_dtype())
    return RowType((-1, *output.values.shape[1:]), _stored_dtype(output.values))


def _as_column(output: Output) -> Column:
    if isinstance(output, torch.Tensor):
        return _as_array(output)
    values = _as_array(output.values)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(output.lengths.cpu().numpy(), dtype=np.int64)])
    if isinstance(output, TextTensor | JsonTensor):
        values = values.view(TEXT if isinstance(output, TextTensor) else json_dtype())
    return Ragged(values, offsets)


def _as_array(tensor: torch.Tensor) -> np.ndarray:
    value: np.ndarray = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy().copy()
    return value


def _join(parts: Sequence[Output]) -> Output:
    if isinstance(parts[0], torch.Tensor):
        return torch.cat([part for part in parts if isinstance(part, torch.Tensor)])
    several = [part for part in parts if not isinstance(part, torch.Tensor)]
    return type(parts[0])(torch.cat([part.values for part in several]), torch.cat([part.lengths for part in several]))


def _stored_dtype(output: torch.Tensor) -> np.dtype[Any]:
    """Return the dtype in which predictions are stored: float32 for bfloat16, which NumPy lacks, without loss."""
    if output.dtype == torch.bfloat16:
        return np.dtype(np.float32)
    try:
        return torch.empty(0, dtype=output.dtype).numpy().dtype
    except TypeError as error:
        raise ModelError(
            f"the model gives {output.dtype}, which NumPy cannot hold; convert it with --postprocess"
        ) from error


def _describe_items(others: Mapping[Any, str]) -> str:
    return ", ".join(f"a {kind} as {name!r}" for name, kind in others.items())


def check_num_rows(outputs: Outputs, ids: Sequence[int]) -> None:
    """Raise ModelError unless each output has one row for each of the rows whose numbers are `ids`."""
    for name, output in named(outputs).items():
        if num_rows_of(output) == len(ids):
            continue
        what = f" as {name!r}" if isinstance(outputs, dict) else ""
        size = (
            f"shape {tuple(output.shape)}" if isinstance(output, torch.Tensor) else plural(len(output.lengths), "row")
        )
        raise ModelError(
            f"the model gave {size}{what} for {name_rows(ids)}; its first axis must be the {plural(len(ids), 'row')} "
            "of the batch. Choose other outputs with --postprocess module:function"
        )
