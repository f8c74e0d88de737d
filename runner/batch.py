"""The way of one batch: rows, preprocess, model, postprocess, predictions. Knows nothing of chunks or ranks."""

import traceback
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import torch
from torch import nn

from runner.calling import Arguments, Calling
from runner.errors import InputError, MemoryShortage, ModelError, UsageError, describe, traceback_of
from runner.outputs import Outputs, arrived, as_outputs, named, num_rows_of, row_type_of, with_kept
from runner.packing import Columns, types_by_name
from runner.rows import Rows, RowType, RowTypes, in_words, name_rows, zero_row
from runner.signature import name_of_dtype
from runner.sources import Source
from runner.tensors import FileList, as_batch, is_text
from runner.transfer import make_transfer, map_tensors
from runner.transforms import Transform

RESETS = ("reset_states", "reset_state", "reset")


class Inference:
    """A model with what comes before and after it.

    Args:
        model: from a batch to its predictions, a tensor or an array; a module is in evaluation mode, on `device`.
        device: where the model wants its batches.
        preprocess: from a CPU tensor of rows `(batch, *row_shape)`, a list of 1-D tensors where rows are ragged, or a
            dict of tensors where they have several fields, to the model's input; None leaves it as it is, and pads
            ragged rows. Of an input that is a tuple or a dict the model gets the items as its arguments.
        postprocess: from the model's output to what `as_outputs` takes, or None.
        dtype: of floating-point inputs; None leaves them.
        channels_last: the memory format of inputs with four axes.
        columns: of several, those that the model gets; none for all that are not in `keep`.
        keep: columns that are kept beside the predictions.
        resets: whether the model's state is reset before each batch.
        calling: how the model is called with a batch.

    Attributes:
        num_behind: see `Transfer.num_behind`.
        ignored: columns that the model does not get.
        reset_name: of the model's method that resets its state; empty where it has none.
        pads: see `Calling.pads`.
        called_with: what the model was called with first, in words; "" before that.

    Raises:
        UsageError: the model has no method to reset its state.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        calling: Calling,
        device: torch.device,
        preprocess: Transform | None,
        postprocess: Transform | None,
        dtype: str | None = None,
        channels_last: bool = False,
        columns: Sequence[str] = (),
        keep: Sequence[str] = (),
        resets: bool = False,
    ) -> None:
        self._columns, self._keep = columns, keep
        self.ignored = tuple(name for name in keep if name not in columns)
        self._calling, self.pads, self.called_with = calling, calling.pads, ""
        self._model, self._preprocess, self._postprocess = model, preprocess, postprocess
        self.reset_name, self._reset = find_reset(model)
        if not resets:
            self._reset = None
        elif self._reset is None:
            raise UsageError(f"--stateful reset: the model has none of the methods {', '.join(RESETS)}")
        casts_all = dtype is not None and not calling.signature.declares_dtypes
        self._dtype = getattr(torch, str(dtype)) if casts_all else None
        self._channels_last = channels_last
        self._transfer = make_transfer(device)
        self.num_behind = self._transfer.num_behind

    def prepare(self, rows: Rows, ids: Sequence[int]) -> Any:
        """The model's input for rows whose numbers are `ids`, on its way to the device.

        Raises:
            ModelError: the user's function failed.
            MemoryShortage: the batch does not fit the memory of the device.
        """
        try:
            batch = self._calling.stacked(as_batch(self._for_the_model(rows)), ids)
        except UnicodeDecodeError as error:
            raise InputError(f"{name_rows(ids)}: the text is not UTF-8: {error}") from error
        if self._preprocess is None:
            try:
                inputs = self._as_inputs(batch, ids)
            except InputError:  # it says itself what is wrong
                raise
            except Exception as error:
                raise _failure("making the model's input", ids, error) from error
        else:
            try:
                with torch.inference_mode():
                    inputs = self._preprocess(batch)
            except Exception as error:
                raise _failure("--preprocess", ids, error) from error
        arguments = self._calling.bind(inputs, ids, are_columns=self._preprocess is None)
        try:
            return self._transfer.stage(map_tensors(arguments, self._convert))
        except Exception as error:
            raise _failure("copying to the GPU", ids, error) from error

    def forward(self, prepared: Any, ids: Sequence[int]) -> Outputs:
        """The predictions for a prepared batch: each `(len(ids), ...)`, on the model's device.

        Raises:
            ModelError: the model or the user's function failed, or gave something else than one row for each.
            MemoryShortage: the batch does not fit the memory of the device.
        """
        inputs = Arguments((), {})
        with torch.inference_mode():
            try:
                inputs = self._transfer.take(prepared)
                self.called_with = self.called_with or "; ".join(
                    [self._calling.describe(inputs), *self._calling.casts.values()]
                )
                if self._reset is not None:
                    self._reset()
                output = self._calling.call(self._model, inputs, len(ids))
            except Exception as error:
                raise _failure("the model", ids, error, self._hint(inputs)) from error
            if self._postprocess is not None:
                try:
                    output = self._postprocess(output)
                except ModelError:
                    raise
                except Exception as error:
                    raise _failure("--postprocess", ids, error) from error
        outputs = as_outputs(output)
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
                    f"its first axis must be the {len(ids)} rows of the batch. "
                    "Choose other outputs with --postprocess module:function"
                )
        return outputs

    def kept(self, rows: Rows) -> Columns:
        """The columns that are kept beside the predictions."""
        return {name: rows[name] for name in self._keep} if isinstance(rows, dict) else {}

    def _for_the_model(self, rows: Rows) -> Rows:
        """Without what is only kept; one column alone without its name."""
        if not isinstance(rows, dict) or not self._keep:
            return rows
        names = self._columns or [name for name in rows if name not in self._keep]
        return {name: rows[name] for name in names} if len(names) > 1 else rows[names[0]]

    def _as_inputs(self, batch: Any, ids: Sequence[int]) -> Any:
        """The model's input for a batch as it is: images and text as it takes them, rows of unlike lengths padded."""
        prepare_images = getattr(self._model, "prepare_images", None)
        if prepare_images is not None and (inputs := prepare_images(batch, ids)) is not None:
            return inputs
        columns = list(batch.values()) if isinstance(batch, dict) else [batch]
        if any(is_text(column) for column in columns) and not self._calling.takes_text:
            tokenise = getattr(self._model, "tokenise", None)
            if tokenise is None or not all(is_text(column) for column in columns):
                raise ModelError(
                    "rows of text need a Hugging Face folder as the model, or --preprocess module:function"
                )
            if isinstance(batch, dict) and getattr(self._model, "wants_names", False):
                return tokenise(**batch)
            return tokenise(*columns)
        if any(isinstance(column, FileList) for column in columns):
            raise ModelError(
                "rows that are files need a folder of Hugging Face's or timm's that takes images as the model, or "
                "--preprocess module:function, which gets the bytes of each as a uint8 tensor"
            )
        return self._calling.from_rows(batch, ids)

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

    def probe(self, source: Source, num_tries: int) -> tuple[RowTypes, int | None]:
        """The shape and dtype of a row of predictions, with what is kept, and the row by which they were found.

        Tries the first `num_tries` rows, until one works; a row of zeros where there are none.

        Raises:
            InputError, ModelError: the error of the first row, where none works.
            UsageError: an output has the name of a column that is kept.
        """
        if not source.num_rows:
            return self._row_type(source, zero_row(source.row_type), 0), None
        first_error: InputError | None = None
        for row in range(min(num_tries, source.num_rows)):
            try:
                return self._row_type(source, source.read(row, row + 1), row), row
            except InputError as error:
                first_error = first_error or error
        assert first_error is not None
        raise first_error

    def _row_type(self, source: Source, rows: Rows, row: int) -> RowTypes:
        found = row_type_of(self.forward(self.prepare(rows, [row]), [row]))
        if isinstance(source.row_type, RowType):
            return found
        return with_kept(found, {name: source.row_type[name] for name in self._keep})

    def _hint(self, inputs: Arguments) -> str:
        """What the model was called with; and what to do where rows and weights are of unlike floating-point dtypes."""
        hint = f" It was called with {self._calling.describe(inputs)}."
        if isinstance(self._model, torch.jit.ScriptModule):
            return (
                f"{hint} A trace may hold the number of rows it was made with: torch.export with an open axis does not"
            )
        model = self._model if isinstance(self._model, nn.Module) else getattr(self._model, "model", None)
        parameters = model.parameters() if isinstance(model, nn.Module) else ()
        wanted = next((p.dtype for p in parameters if p.is_floating_point()), None)
        value = next((v for v in (*inputs.positional, *inputs.named.values()) if _is_of_numbers(v)), None)
        if value is None or wanted in (None, value.dtype):
            return hint
        advice = "convert it with --preprocess"
        if value.is_floating_point():
            advice = f"--dtype {name_of_dtype(wanted)}, or --preprocess, converts it" if wanted else ""
        return f"{hint} The model's input is {value.dtype}, its weights are {wanted}: {advice}"


def _is_of_numbers(value: Any) -> TypeGuard[torch.Tensor]:
    """Whether it is a tensor that is no list of indices, as whole numbers may be."""
    return isinstance(value, torch.Tensor) and (value.is_floating_point() or value.dtype == torch.uint8)


def find_reset(model: Any) -> tuple[str, Callable[[], Any] | None]:
    """The method by which a model forgets what it keeps between calls, and its name."""
    while not isinstance(model, nn.Module) and isinstance(getattr(model, "model", None), Callable):  # type: ignore[arg-type]
        model = model.model  # what is called with batches in some way of ours
    for name in RESETS:
        if callable(reset := getattr(model, name, None)):
            return name, reset
    return "", None


def check_row_type(outputs: Outputs, row_type: RowTypes, kept: Sequence[str], ids: Sequence[int]) -> None:
    """Raise ModelError unless a batch of predictions has rows of this type, but for the columns that are kept."""
    found, expected = row_type_of(outputs), row_type
    if kept or not isinstance(row_type, RowType):
        found = types_by_name(found)
        expected = {name: column for name, column in types_by_name(row_type).items() if name not in kept}
    if found != expected:
        raise ModelError(
            f"the model gave {in_words(found)} per row for {name_rows(ids)} and {in_words(expected)} for the first "
            "row; every row must be of one shape and dtype"
        )


def _failure(what: str, ids: Sequence[int], error: Exception, hint: str = "") -> Exception:
    kind: type[InputError] = ModelError
    why, details = describe(error), traceback_of(error)
    if isinstance(error, InputError):  # one of ours, which says all
        kind, why, details = type(error), error.message, error.details
    elif is_memory_shortage(error):
        kind = MemoryShortage
    failure = kind(f"{what} failed on {name_rows(ids)}: {why}.{hint}", details)
    if kind is MemoryShortage:
        traceback.clear_frames(error.__traceback__)  # the model's frames hold what it had allocated
    return failure


def is_memory_shortage(error: Exception) -> bool:
    """Whether a batch did not fit the memory of its device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)  # on the CPU it has no type
