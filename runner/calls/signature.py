"""Inputs that a model takes, as far as it declares them: names, dtypes, shapes, and rows per call."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from runner.core.text import plural

MASKS = ("attention_mask", "mask")  # names of inputs that get the mask of padded rows, if a model has one


@dataclass(frozen=True)
class Input:
    """Description of one input of a model.

    Attributes:
        name: name of the input in the model.
        dtype: dtype it must have; None if the model declares none.
        shape: its axes, the rows first; None for an axis left open, and for all of them if the model declares none.
        is_text: whether it takes text.
        is_scalar: whether it takes a Python number or string instead of a tensor.
        is_required: whether the model cannot be called without it.
        of_rows: whether its first axis is the rows of a batch.
        by_keyword: whether it is passed by keyword if it is given by name; else by position.
    """

    name: str
    dtype: torch.dtype | None = None
    shape: tuple[int | None, ...] | None = None
    is_text: bool = False
    is_scalar: bool = False
    is_required: bool = True
    of_rows: bool = True
    by_keyword: bool = True

    def __str__(self) -> str:
        kind = "text" if self.is_text else name_of_dtype(self.dtype) if self.dtype else ""
        axes = list(self.shape or ())
        if axes and self.of_rows and axes[0] is None:
            shape = f"({', '.join(['rows', *(str(axis or '?') for axis in axes[1:])])})"
        else:
            shape = str(tuple("?" if axis is None else axis for axis in axes)).replace("'", "")
        described = [self.name, *[kind] * bool(kind), *[shape] * (self.shape is not None)]
        return " ".join([*described, *["(optional)"] * (not self.is_required)])


@dataclass(frozen=True)
class Signature:
    """Inputs of a model, and limits on the rows of a call.

    Attributes:
        inputs: inputs in order of position.
        num_positional: number of inputs that may be given by position.
        more_positional, more_named: whether it takes arguments that are not listed.
        takes_tensors: whether arrays must become tensors for it.
        least, most: limits on the rows of one call; None for no upper limit.
    """

    inputs: tuple[Input, ...] = ()
    num_positional: int = 0
    more_positional: bool = False
    more_named: bool = False
    takes_tensors: bool = True
    least: int = 1
    most: int | None = None

    @property
    def declares_dtypes(self) -> bool:
        """Whether inputs have dtypes of their own."""
        return any(value.dtype is not None or value.is_text for value in self.inputs)

    @property
    def names(self) -> list[str]:
        """Names of the inputs."""
        return [value.name for value in self.inputs]

    @property
    def mask(self) -> Input | None:
        """The input for the mask of padded rows, found by its name."""
        first = self.inputs[0].name if self.num_positional else None
        return next((value for value in self.inputs if value.name in MASKS and value.name != first), None)

    def find(self, name: str) -> Input | None:
        """Return the input with this name, or None."""
        return next((value for value in self.inputs if value.name == name), None)

    def open_inputs(self, constants: Collection[str]) -> list[Input]:
        """Return the inputs that are given by position and are not constants."""
        return [value for value in self.inputs[: self.num_positional] if value.name not in constants]

    def __str__(self) -> str:
        described = [str(value) for value in self.inputs] + ["any others"] * (self.more_positional or self.more_named)
        return ", ".join(described) or "nothing"

    def describe_limits(self) -> str:
        """Return the limits on the rows of a call, in words; empty where there are none."""
        if self.most == self.least:
            return f"{plural(self.least, 'row')} at most; smaller ones are padded"
        limits = [f"at least {plural(self.least, 'row')}; smaller ones are padded"] * (self.least > 1)
        if self.most is not None:
            limits.append(f"at most {plural(self.most, 'row')}")
        return "; ".join(limits)


def name_of_dtype(dtype: torch.dtype) -> str:
    """Return the name of a dtype without `torch.`, as users write it."""
    return str(dtype).removeprefix("torch.")


def describe_value(value: Any) -> str:
    """Describe an argument for messages: dtype and shape, or the value of a number."""
    if isinstance(value, torch.Tensor):
        return f"{name_of_dtype(value.dtype)} {tuple(value.shape)}"
    if isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return f"text ({len(value)},)"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)} {type(value[0]).__name__ if len(value) else 'items'}"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"an array of {value.dtype} {tuple(value.shape)}"
    return f"a {type(value).__name__}"


def declared(
    inputs: Sequence[Input], num_positional: int, constants: Collection[str], least: int = 1, most: int | None = None
) -> Signature:
    """Make the signature of a model that declares the shapes of its inputs.

    The rows are the first axis of the first input that has one and is no constant, and of all other inputs whose first
    axis has the same size.

    Args:
        inputs: inputs in order.
        num_positional: number of inputs that are given by position.
        constants: names of the inputs that have one value for all calls.
        least, most: limits on the rows of one call, if the first axis is open.
    """
    first = next((value for value in inputs if value.shape and value.name not in constants), None)
    if first is None or first.shape is None:
        return Signature(tuple(inputs), num_positional)
    size = first.shape[0]
    marked = [replace(v, of_rows=bool(v.shape) and v.shape[0] == size if v.shape is not None else True) for v in inputs]
    if size is not None:
        least = most = size
    return Signature(tuple(marked), num_positional, least=least, most=most)
