"""Binding of columns to the inputs of a model: their dtypes, and the number of rows in a call."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from runner.calls.casting import cast
from runner.calls.filling import cut, fill
from runner.calls.matching import Matching, check_stack
from runner.calls.signature import Input, Signature, describe_value, name_of_dtype
from runner.core.errors import ModelError, UnlikeLengths, UsageError
from runner.core.text import listed
from runner.data.rows import RowType, RowTypes, name_rows
from runner.data.tensors import Batch, is_text, pad


class Arguments(NamedTuple):
    """Arguments of a call of the model, by position and by name."""

    positional: tuple[Any, ...]
    named: dict[str, Any]


class Binding:
    """Conversion of the rows of a batch to the arguments of a model, decided by the types of both, not by the values.

    Args:
        signature: inputs of the model.
        row_type: columns that the model gets.
        is_raw: whether they go to the model unchanged, and not through --preprocess.
        constants: values for inputs that are the same in every call.
        dtype: see `Config.dtype`.
        stack: whether the columns become one matrix.
        device: device of the constants.

    Attributes:
        pads: whether variable-length rows may be in one batch, because the model is told where the padding is.
        takes_text: whether the model itself takes text.
        casts: by input, in words: from and to which dtype its rows have been converted.

    Raises:
        UsageError: the columns, the constants or the dtype do not fit the inputs of the model.
    """

    def __init__(
        self,
        signature: Signature,
        row_type: RowTypes,
        is_raw: bool,
        constants: Mapping[str, Any],
        dtype: str | None,
        stack: bool,
        device: torch.device,
    ) -> None:
        self.signature = signature
        self._dtype = dtype
        self._stacks = stack
        self.casts: dict[str, str] = {}
        self._types = dict(row_type) if not isinstance(row_type, RowType) else {"": row_type}
        self._constants = {name: self._constant(name, value, device) for name, value in constants.items()}
        self._matching = Matching(signature, self._types, self._constants)
        has_text = self._matching.has_text
        self._mask = self._matching.mask
        self.pads = not is_raw or has_text or self._mask is not None or self._matching.carries_mask
        self.takes_text = any(value.is_text for value in signature.inputs)
        self._matching.check_inputs(is_raw, dtype)
        if stack:
            check_stack(self._types)
        elif is_raw and "" not in self._types and (self.takes_text or not has_text):
            self._matching.check_columns()

    def stacked(self, batch: Any, ids: Sequence[int]) -> Any:
        """Return the batch, its columns stacked to one matrix `(rows, columns)` if that is asked for."""
        if not self._stacks:
            return batch
        columns = batch if isinstance(batch, dict) else {"the one column": batch}
        dtype = torch.from_numpy(np.empty(0, np.result_type(*(t.dtype for t in self._types.values())))).dtype
        return torch.stack([cast(value, dtype, f"--stack: {name}", ids) for name, value in columns.items()], dim=1)

    def from_rows(self, batch: Batch | dict[str, Batch], ids: Sequence[int]) -> Any:
        """Convert rows without --preprocess to the arguments of the model; pad variable-length rows and add their mask.

        Raises:
            ModelError: rows are of variable length, and the model gets no mask; or it takes one mask, and columns
                differ.
        """
        columns: dict[str, Any] = dict(batch) if isinstance(batch, dict) else {"": batch}
        lists = {name: column for name, column in columns.items() if isinstance(column, list) and not is_text(column)}
        masks = []
        for name, column in lists.items():
            columns[name], mask = pad(column)
            if not self.pads and not bool(mask.all()):
                lengths = sorted({len(row) for row in column})
                raise UnlikeLengths(
                    f"{name_rows(ids)} have {len(lengths)} lengths, {lengths[0]} to {lengths[-1]}, and the model has "
                    "no mask input for the padding"
                )
            masks.append(mask)
        if not masks and self._matching.needs_mask and isinstance(columns[""], torch.Tensor):
            masks.append(torch.ones(columns[""].shape[:2], dtype=torch.bool))  # rows of one length are not padded
        if self._mask is None or not masks:
            return columns if isinstance(batch, dict) else columns[""]
        if any(not torch.equal(mask, masks[0]) for mask in masks[1:]):
            raise ModelError(
                f"{name_rows(ids)}: {', '.join(lists)} have different lengths, and the model takes one mask"
            )
        mask = masks[0].long() if self._mask == "attention_mask" else masks[0]
        if isinstance(batch, dict):
            return columns | {self._mask: mask}
        return Arguments((columns[""],), {self._mask: mask}) if self._mask else (columns[""], mask)

    def bind(self, inputs: Any, ids: Sequence[int], are_columns: bool) -> Arguments:
        """Return the arguments of the model for a batch, without constants; each in the dtype that its input declares.

        Args:
            inputs: one argument, a tuple of them, or a dict by name.
            ids: numbers of the rows.
            are_columns: whether names are those of columns, which may go to inputs by position, too.

        Raises:
            ModelError: the arguments do not fit the inputs of the model.
        """
        if isinstance(inputs, list) and self.signature.declares_dtypes and not is_text(inputs):
            inputs = tuple(inputs)
        if isinstance(inputs, Arguments):
            positional, named = inputs
        elif isinstance(inputs, tuple):
            positional = tuple(inputs)
            named = {}
        elif isinstance(inputs, dict) and not (are_columns and self._matching.by_position(inputs)):
            positional = ()
            named = dict(inputs)
        else:
            positional = tuple(inputs.values()) if isinstance(inputs, dict) else (inputs,)
            named = {}
        if problem := self._matching.misfit(len(positional), list(named)):
            described = self.describe(Arguments(positional, named))
            advice = self._matching.advice() if are_columns else ""
            raise ModelError(f"{problem}; it would be called with {described}{'. ' * bool(advice)}{advice}")
        slots: list[Input | None] = [*self._matching.inputs]
        slots += [None] * (len(positional) - len(slots))
        return Arguments(
            tuple(self._fit(slot, value, ids) for slot, value in zip(slots, positional, strict=False)),
            {name: self._fit(self.signature.find(name), value, ids) for name, value in named.items()},
        )

    def call(self, model: Callable[..., Any], arguments: Arguments, num_rows: int) -> Any:
        """Call the model with a batch; one that is too short for it is padded with copies of its last row.

        The outputs of these copies are cut off again.
        """
        size = max(num_rows, self.signature.least)
        if size == num_rows:
            positional, named = self._arranged(arguments)
            return model(*positional, **named)
        kept = {value.name for value in self.signature.inputs if not value.of_rows}
        names = [value.name for value in self._matching.inputs[: len(arguments.positional)]]
        names += [""] * (len(arguments.positional) - len(names))
        filled = Arguments(
            tuple(
                v if n in kept else fill(v, num_rows, size) for n, v in zip(names, arguments.positional, strict=True)
            ),
            {n: v if n in kept else fill(v, num_rows, size) for n, v in arguments.named.items()},
        )
        positional, named = self._arranged(filled)
        return cut(model(*positional, **named), num_rows, size)

    def describe(self, arguments: Arguments) -> str:
        """Return the arguments of a call, constants included, in words."""
        names = [value.name for value in self._matching.inputs]
        names += ["" for _ in arguments.positional[len(names) :]]
        described = [f"{n} {describe_value(v)}".strip() for n, v in zip(names, arguments.positional, strict=False)]
        described += [f"{name} {describe_value(value)}" for name, value in arguments.named.items()]
        described += [f"{name}={describe_value(value)}" for name, value in self._constants.items()]
        stacked = f", stacked from the columns {listed([*self._types])}" if self._stacks else ""
        return (", ".join(described) or "nothing") + stacked

    def _arranged(self, arguments: Arguments) -> Arguments:
        """Add the constants; arguments that cannot be given by keyword get their position."""
        named = arguments.named | self._constants
        if all(value.by_keyword or value.name not in named for value in self.signature.inputs):
            return Arguments(arguments.positional, named)
        rest = list(arguments.positional)
        positional = []
        for value in self.signature.inputs[: self.signature.num_positional]:
            if value.name in named:
                positional.append(named.pop(value.name))
            elif rest:
                positional.append(rest.pop(0))
        return Arguments((*positional, *rest), named)

    def _fit(self, slot: Input | None, value: Any, ids: Sequence[int]) -> Any:
        """Return an argument in the form that an input takes."""
        if isinstance(value, np.ndarray) and value.dtype.kind in "biufc" and self.signature.takes_tensors:
            value = torch.from_numpy(value)
        if slot is None or (slot.dtype is None and not slot.is_text):
            return value
        what = f"the model's input {slot.name}"
        if slot.is_text or not isinstance(value, torch.Tensor):
            if slot.is_text and is_text(value):
                return value
            wanted = "text" if slot.is_text else name_of_dtype(slot.dtype or torch.float32)
            raise ModelError(f"{what} takes {wanted}, not {describe_value(value)}")
        assert slot.dtype is not None
        if value.dtype != slot.dtype:
            self.casts[slot.name] = f"{name_of_dtype(value.dtype)} rows to {name_of_dtype(slot.dtype)} for {slot.name}"
        value = cast(value, slot.dtype, what, ids, self._dtype)
        if slot.shape is not None and value.ndim == len(slot.shape) - 1 and slot.shape[-1] == 1:
            value = value.unsqueeze(-1)
        return value

    def _constant(self, name: str, value: Any, device: torch.device) -> Any:
        slot = self.signature.find(name)
        if slot is None and not self.signature.more_named:
            raise UsageError(f"--input {name}: the model takes {self.signature}")
        if slot is not None and slot.is_text:
            return [value] if isinstance(value, str) else value
        declares = slot is not None and slot.dtype is not None
        if isinstance(value, str) or (isinstance(value, bool | int | float) and not declares):
            return value
        tensor = torch.as_tensor(value)
        if slot is not None and slot.dtype is not None:
            try:
                tensor = cast(tensor, slot.dtype, f"--input {name}: it", [], name_of_dtype(slot.dtype))
            except ModelError as error:
                raise UsageError(error.message) from error
            if slot.shape is not None and None not in slot.shape:
                sizes = [size for size in slot.shape if size is not None]
                if tensor.numel() != int(np.prod(sizes)):
                    raise UsageError(f"--input {name} has shape {tuple(tensor.shape)}; the model takes {slot}")
                tensor = tensor.reshape(sizes)
        return tensor.to(device)
