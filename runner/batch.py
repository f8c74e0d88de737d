"""The way of one batch: rows, preprocess, model, postprocess, predictions. Knows nothing of chunks or ranks."""

import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import torch
from torch import nn

from runner.errors import InputError, MemoryShortage, ModelError, describe, traceback_of
from runner.gradients import Mode, calling
from runner.outputs import Outputs, arrived, as_outputs, named, num_rows_of
from runner.packing import Columns
from runner.rows import Rows, name_rows
from runner.tensors import Batch, Tokens, as_batch, is_text, pad
from runner.texts import Cut, check_num_texts, find_cut, text_columns
from runner.transfer import make_transfer, map_tensors
from runner.transforms import Transform


class Prepared(NamedTuple):
    """A batch on its way to the model: its input, what a tokenizer has cut off, and whether it was text."""

    inputs: Any
    cut: Cut
    is_text: bool


class Inference:
    """A model with what comes before and after it.

    Args:
        model: from a batch to its predictions, a tensor or an array; a module is in evaluation mode, on `device`.
        device: where the model wants its batches.
        preprocess: from a CPU tensor of rows `(batch, *row_shape)`, a list of 1-D tensors where rows are ragged, or a
            dict of tensors where they have several fields, to the model's input; None leaves it as it is, and pads
            ragged rows. Of an input that is a tuple or a dict the model gets the items as its arguments. What is text
            then goes through the model's tokenizer, where it has one.
        postprocess: from the model's output to what `as_outputs` takes, or None.
        dtype: of floating-point inputs; None leaves them.
        channels_last: the memory format of inputs with four axes.
        columns: of several, those that the model gets; none for all that are not in `keep`.
        keep: columns that are kept beside the predictions.
        truncate: whether texts may be cut: `refuse` lets none be; None where nothing is said of it.
        may_keep_tensors: whether the model is code of the user's, which may keep tensors from one call to another.

    Attributes:
        num_behind: as `Transfer` has it.
        ignored: columns that the model does not get.
        mode: in which preprocess, model and postprocess are called; the first row decides.
        can_have_gradients: whether the model can be called with gradients.
        tokenise: the model's tokenizer, from columns of text to `Tokens`; None where it has none.
        batching: see `make_batching`.
        text_options: those given that are about text alone.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        device: torch.device,
        preprocess: Transform | None,
        postprocess: Transform | None,
        dtype: str | None = None,
        channels_last: bool = False,
        columns: Sequence[str] = (),
        keep: Sequence[str] = (),
        truncate: str | None = None,
        may_keep_tensors: bool = False,
    ) -> None:
        self._columns, self.keep, self.truncate = columns, keep, truncate
        self.ignored = tuple(name for name in keep if name not in columns)
        self._model, self.preprocess, self._postprocess = model, preprocess, postprocess
        self.tokenise: Callable[..., Tokens] | None = getattr(model, "tokenise", None)
        self.mode, self.may_keep_tensors = Mode.INFERENCE, may_keep_tensors
        self.can_have_gradients = getattr(model, "can_have_gradients", True)
        self.text_options: list[str] = []
        self.batching: Callable[[Rows, int], list[np.ndarray]] | None = None
        self._dtype = getattr(torch, dtype) if dtype else None
        self._channels_last = channels_last
        self._transfer = make_transfer(device)
        self.num_behind = self._transfer.num_behind

    def prepare(self, rows: Rows, ids: Sequence[int]) -> Prepared:
        """The model's input for rows whose numbers are `ids`, on its way to the device.

        Raises:
            InputError: a text is too long, and none may be cut.
            ModelError: the user's function failed.
            MemoryShortage: the batch does not fit the memory of the device.
        """
        inputs = self.given(rows, ids)
        if self.preprocess is None:
            inputs = self._as_inputs(inputs)
        else:
            inputs = self._tokenised(self.preprocessed(inputs, ids), ids)
        cut, is_text = Cut(), isinstance(inputs, Tokens)
        if isinstance(inputs, Tokens):
            cut = find_cut(inputs, ids, self.truncate == "refuse")
            inputs = dict(inputs.inputs)
        try:
            staged = self._transfer.stage(map_tensors(inputs, self._convert))
        except Exception as error:
            raise _failure("copying to the GPU", ids, error) from error
        return Prepared(staged, cut, is_text)

    def given(self, rows: Rows, ids: Sequence[int]) -> Any:
        """A batch as it comes to `preprocess`.

        Raises:
            InputError: text is not UTF-8.
        """
        try:
            return as_batch(self._for_the_model(rows))
        except UnicodeDecodeError as error:
            raise InputError(f"{name_rows(ids)}: the text is not UTF-8: {error}") from error

    def preprocessed(self, batch: Any, ids: Sequence[int]) -> Any:
        """What `preprocess` makes of a batch.

        Raises:
            ModelError: it failed.
        """
        assert self.preprocess is not None
        try:
            with calling(self.mode):
                return self.preprocess(batch)
        except Exception as error:
            raise _failure("--preprocess", ids, error) from error

    def forward(self, prepared: Prepared, ids: Sequence[int]) -> Outputs:
        """The predictions for a prepared batch: each `(len(ids), ...)`, on the model's device.

        Raises:
            ModelError: the model or the user's function failed, or gave something else than one row for each.
            MemoryShortage: the batch does not fit the memory of the device.
        """
        inputs: Any = None
        with calling(self.mode):
            try:
                inputs = self._transfer.take(prepared.inputs)
                output = self._call(inputs)
            except Exception as error:
                raise _failure("the model", ids, error, self._dtype_hint(inputs)) from error
            if self._postprocess is not None:
                try:
                    output = self._postprocess(output)
                except ModelError:
                    raise
                except Exception as error:
                    raise _failure("--postprocess", ids, error) from error
        outputs = as_outputs(output)
        if self.mode is Mode.GRADIENTS:
            outputs = map_tensors(outputs, torch.Tensor.detach)  # and with the graph goes its memory
        for name, output in named(outputs).items():
            if num_rows_of(output) != len(ids):
                what = f" as {name!r}" if isinstance(outputs, dict) else ""
                found = (
                    f"shape {tuple(output.shape)}"
                    if isinstance(output, torch.Tensor)
                    else f"{num_rows_of(output)} rows"
                )
                raise ModelError(
                    f"the model gave {found}{what} for {name_rows(ids)}; "
                    f"its first axis must be the {len(ids)} rows of the batch"
                )
        return outputs

    def kept(self, rows: Rows) -> Columns:
        """The columns that are kept beside the predictions."""
        return {name: rows[name] for name in self.keep} if isinstance(rows, dict) else {}

    def _for_the_model(self, rows: Rows) -> Rows:
        """Without what is only kept; one column alone without its name."""
        if not isinstance(rows, dict) or not self.keep:
            return rows
        names = self._columns or [name for name in rows if name not in self.keep]
        return {name: rows[name] for name in names} if len(names) > 1 else rows[names[0]]

    def _tokenised(self, inputs: Any, ids: Sequence[int]) -> Any:
        """What --preprocess gives, with text as `Tokens` where the model has a tokenizer."""
        texts = text_columns(inputs) if self.tokenise else None
        if self.tokenise is None or texts is None:
            return inputs
        check_num_texts(texts, ids)
        return self.tokenise(*texts)

    def _as_inputs(self, batch: Any) -> Any:
        """The model's input for a batch as it is: text as `Tokens`, rows of unlike lengths padded."""
        columns = list(batch.values()) if isinstance(batch, dict) else [batch]
        if self.tokenise is not None and any(is_text(column) for column in columns):
            if not all(is_text(column) for column in columns):
                raise ModelError(
                    "some columns are text and some are not, and the model's tokenizer takes text alone: choose with "
                    "--columns, or make one text of them with --preprocess module:function"
                )
            return self.tokenise(*columns)
        if isinstance(batch, dict):
            return {name: pad(column)[0] if _is_ragged(column) else column for name, column in batch.items()}
        return pad(batch) if _is_ragged(batch) else batch

    def _convert(self, tensor: torch.Tensor) -> torch.Tensor:
        if self._dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(self._dtype)
        if self._channels_last and tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor

    def fetch(self, outputs: Outputs, ids: Sequence[int]) -> Callable[[], Outputs]:
        """Start to bring predictions to the CPU, while the next batch is in the model.

        Returns:
            What waits for them. It raises ModelError where the device has failed at this batch.
        """
        arriving = map_tensors(outputs, self._transfer.fetch)

        def wait() -> Outputs:
            try:
                outputs_on_cpu: Outputs = arrived(arriving)
                return outputs_on_cpu
            except Exception as error:
                raise _failure("the model", ids, error) from error

        return wait

    def _call(self, inputs: Any) -> Any:
        if isinstance(inputs, tuple):
            return self._model(*inputs)
        return self._model(**inputs) if isinstance(inputs, dict) else self._model(inputs)

    def _dtype_hint(self, inputs: Any) -> str:
        """What to do where the model gets text, or rows of another floating-point dtype than its own."""
        if text_columns(inputs):
            return " The model gets rows of text as a list of strings; one that takes numbers needs --preprocess"
        parameters = self._model.parameters() if isinstance(self._model, nn.Module) else ()
        wanted = next((p.dtype for p in parameters if p.is_floating_point()), None)
        if not isinstance(inputs, torch.Tensor) or wanted is None or inputs.dtype == wanted:
            return ""
        return f" The model's input is {inputs.dtype}, its weights are {wanted}: convert it with --preprocess"


def _is_ragged(column: Batch) -> TypeGuard[list[torch.Tensor]]:
    return isinstance(column, list) and not is_text(column)


def _failure(what: str, ids: Sequence[int], error: Exception, hint: str = "") -> Exception:
    kind: type[InputError] = ModelError
    if isinstance(error, InputError):
        kind = type(error)
    elif is_memory_shortage(error):
        kind = MemoryShortage
    failure = kind(f"{what} failed on {name_rows(ids)}: {describe(error)}.{hint}", traceback_of(error))
    if kind is MemoryShortage:
        traceback.clear_frames(error.__traceback__)  # the model's frames hold what it had allocated
    return failure


def is_memory_shortage(error: Exception) -> bool:
    """Whether a batch did not fit the memory of its device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)  # on the CPU it has no type
