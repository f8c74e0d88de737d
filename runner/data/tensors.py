"""Rows as PyTorch tensors, on their way into a model and out of it."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from runner.data.cell_types import cell_name
from runner.data.json_cells import json_values
from runner.data.rows import FILE, TEXT, Column, Rows, texts_of

Batch = torch.Tensor | list[torch.Tensor] | list[str]


class FileList(list[torch.Tensor]):
    """Rows that are files: the bytes of each, 1-D uint8."""


class RaggedTensor(NamedTuple):
    """Variable-length rows: `values`, one row after another along the first axis, and `lengths`, 1-D int64."""

    values: torch.Tensor
    lengths: torch.Tensor


class TextTensor(NamedTuple):
    """Rows of text, in UTF-8: `values` 1-D uint8, one row after another, and `lengths`, 1-D int64."""

    values: torch.Tensor
    lengths: torch.Tensor


class JsonTensor(NamedTuple):
    """Rows of JSON: `values` 1-D uint8, one row after another, as cells have text, and `lengths`, 1-D int64."""

    values: torch.Tensor
    lengths: torch.Tensor


class JsonList(list[str | None]):
    """Rows of JSON as an output of a model: the text of each, or None for null."""


class Tokens(NamedTuple):
    """A batch of texts from a tokenizer.

    Attributes:
        inputs: the model's arguments by name.
        lost: number of tokens cut off, for each row.
        limit: the most tokens a row may have; None where there is no limit.
        refused: why each row is answered with an error, "" where it is not; empty where none is.
    """

    inputs: Mapping[str, Any]
    lost: Sequence[int]
    limit: int | None
    refused: Sequence[str] = ()


def as_batch(rows: Rows) -> Batch | dict[str, Batch]:
    """Convert rows for PyTorch: a tensor, a list of tensors or of strings; a dict of these if there are columns.

    Cells become strings of JSON.

    Raises:
        UnicodeDecodeError: text is not UTF-8.
    """
    if isinstance(rows, dict):
        return {name: _as_batch(column) for name, column in rows.items()}
    if isinstance(rows, np.ndarray) and rows.dtype.names is not None:
        return {name: torch.from_numpy(rows[name].copy()) for name in rows.dtype.names}
    return _as_batch(rows)


def _as_batch(column: Column) -> Batch:
    if isinstance(column, np.ndarray):
        return torch.from_numpy(column)
    if column.values.dtype == TEXT:
        return texts_of(column)
    if cell_name(column.values.dtype):
        return [json.dumps(value, ensure_ascii=False) for value in json_values(column)]
    lengths = column.lengths.tolist()
    if column.values.dtype == FILE:
        return FileList(torch.split(torch.from_numpy(column.values.view(np.uint8)), lengths))
    return list(torch.split(torch.from_numpy(column.values), lengths))


def is_text(column: Batch) -> bool:
    """Return whether a column of a batch is text."""
    return isinstance(column, list) and bool(column) and isinstance(column[0], str)


def pad(batch: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad variable-length rows with 0 to a tensor `(rows, longest, ...)`; return it and a bool mask, True at values."""
    lengths = torch.tensor([len(row) for row in batch])
    padded = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]


def map_tensors(inputs: Any, function: Callable[[torch.Tensor], Any]) -> Any:
    """Return the inputs or outputs of a model with each tensor replaced by the result of `function` for it."""
    if isinstance(inputs, torch.Tensor):
        return function(inputs)
    if isinstance(inputs, dict):
        return {key: map_tensors(value, function) for key, value in inputs.items()}
    if isinstance(inputs, tuple) and hasattr(inputs, "_fields"):  # a named tuple
        return type(inputs)(*(map_tensors(value, function) for value in inputs))
    if isinstance(inputs, list | tuple):
        return type(inputs)(map_tensors(value, function) for value in inputs)
    return inputs
