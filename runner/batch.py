"""The way of one batch: rows, preprocess, model, postprocess, predictions. Knows nothing of chunks or ranks."""

import traceback
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from runner.errors import InputError, MemoryShortage, ModelError, describe, traceback_of
from runner.outputs import Outputs, arrived, as_outputs, named, num_rows_of, row_type_of, with_kept
from runner.packing import Columns, types_by_name
from runner.rows import Rows, RowType, RowTypes, in_words, name_rows, zero_row
from runner.sources import Source
from runner.tensors import Tokens, as_batch, is_text, pad
from runner.transfer import make_transfer, map_tensors
from runner.transforms import Transform


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

    Attributes:
        num_behind: as `Transfer` has it.
        ignored: columns that the model does not get.
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
    ) -> None:
        self._columns, self._keep = columns, keep
        self.ignored = tuple(name for name in keep if name not in columns)
        self._model, self._preprocess, self._postprocess = model, preprocess, postprocess
        self._dtype = getattr(torch, dtype) if dtype else None
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
            batch = as_batch(self._for_the_model(rows))
        except UnicodeDecodeError as error:
            raise InputError(f"{name_rows(ids)}: the text is not UTF-8: {error}") from error
        if self._preprocess is None:
            try:
                inputs = self._as_inputs(batch, ids)
            except InputError:  # it says itself what is wrong
                raise
            except Exception as error:
                raise _failure("making the model's input", ids, error) from error
            if isinstance(inputs, Tokens):
                inputs = dict(inputs.inputs)
        else:
            try:
                with torch.inference_mode():
                    inputs = self._preprocess(batch)
            except Exception as error:
                raise _failure("--preprocess", ids, error) from error
        try:
            return self._transfer.stage(map_tensors(inputs, self._convert))
        except Exception as error:
            raise _failure("copying to the GPU", ids, error) from error

    def forward(self, prepared: Any, ids: Sequence[int]) -> Outputs:
        """The predictions for a prepared batch: each `(len(ids), ...)`, on the model's device.

        Raises:
            ModelError: the model or the user's function failed, or gave something else than one row for each.
            MemoryShortage: the batch does not fit the memory of the device.
        """
        inputs: Any = None
        with torch.inference_mode():
            try:
                inputs = self._transfer.take(prepared)
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
        return {name: rows[name] for name in self._keep} if isinstance(rows, dict) else {}

    def _for_the_model(self, rows: Rows) -> Rows:
        """Without what is only kept; one column alone without its name."""
        if not isinstance(rows, dict) or not self._keep:
            return rows
        names = self._columns or [name for name in rows if name not in self._keep]
        return {name: rows[name] for name in names} if len(names) > 1 else rows[names[0]]

    def _as_inputs(self, batch: Any, ids: Sequence[int]) -> Any:
        """The model's input for a batch as it is: text as tokens, rows of unlike lengths padded."""
        columns = list(batch.values()) if isinstance(batch, dict) else [batch]
        if any(is_text(column) for column in columns):
            tokenise = getattr(self._model, "tokenise", None)
            if tokenise is None or not all(is_text(column) for column in columns):
                raise ModelError(
                    "rows of text need a Hugging Face folder as the model, or --preprocess module:function"
                )
            if isinstance(batch, dict) and getattr(self._model, "wants_names", False):
                return self._model.tokenise_named(batch, ids)  # type: ignore[attr-defined]
            return tokenise(*columns)
        if isinstance(batch, dict):
            return {name: pad(column)[0] if isinstance(column, list) else column for name, column in batch.items()}
        return pad(batch) if isinstance(batch, list) else batch

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

    def _dtype_hint(self, inputs: Any) -> str:
        """What to do where rows and model are of different floating-point dtypes, the commonest mistake."""
        parameters = self._model.parameters() if isinstance(self._model, nn.Module) else ()
        wanted = next((p.dtype for p in parameters if p.is_floating_point()), None)
        if not isinstance(inputs, torch.Tensor) or wanted is None or inputs.dtype == wanted:
            return ""
        return f" The model's input is {inputs.dtype}, its weights are {wanted}: convert it with --preprocess"


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
