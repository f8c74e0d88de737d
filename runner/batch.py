"""The way of one batch: rows, preprocess, model, postprocess, predictions. Knows nothing of chunks or ranks."""

import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from runner.errors import InputError, MemoryShortage, ModelError, describe, traceback_of
from runner.rows import Rows, name_rows, pad
from runner.sinks import RowType
from runner.sources import Source, zero_row
from runner.transfer import make_transfer
from runner.transforms import Transform


class Inference:
    """A model with what comes before and after it.

    Args:
        model: in evaluation mode, on `device`.
        device: where the model is.
        preprocess: from a CPU tensor of rows `(batch, *row_shape)`, or a list of 1-D tensors where rows are ragged, to
            the model's input; None leaves the tensor as it is, and pads ragged rows. Of an input that is a tuple or a
            dict the model gets the items as its arguments.
        postprocess: from the model's output to a tensor `(batch, ...)`, or None.
    """

    def __init__(
        self, model: nn.Module, device: torch.device, preprocess: Transform | None, postprocess: Transform | None
    ) -> None:
        self._model, self._preprocess, self._postprocess = model, preprocess, postprocess
        self._transfer = make_transfer(device)
        self.num_behind = self._transfer.num_behind

    def prepare(self, rows: Rows, ids: Sequence[int]) -> Any:
        """The model's input for rows whose numbers are `ids`, on its way to the device.

        Raises:
            ModelError: the user's function failed.
            MemoryShortage: the batch does not fit the memory of the device.
        """
        batch = torch.from_numpy(rows) if isinstance(rows, np.ndarray) else rows.tensors()
        if self._preprocess is None:
            inputs = batch if isinstance(batch, torch.Tensor) else pad(batch)
        else:
            try:
                with torch.inference_mode():
                    inputs = self._preprocess(batch)
            except Exception as error:
                raise _failure("--preprocess", ids, error) from error
        try:
            return self._transfer.stage(inputs)
        except Exception as error:
            raise _failure("copying to the GPU", ids, error) from error

    def forward(self, prepared: Any, ids: Sequence[int]) -> torch.Tensor:
        """The predictions for a prepared batch: `(len(ids), ...)`, on the model's device.

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
        if not isinstance(output, torch.Tensor):
            raise ModelError(
                f"the model gave a {type(output).__name__} for {name_rows(ids)}; one tensor is needed. "
                "Choose it with --postprocess module:function"
            )
        if output.ndim == 0 or output.shape[0] != len(ids):
            raise ModelError(
                f"the model gave shape {tuple(output.shape)} for {name_rows(ids)}; "
                f"its first axis must be the {len(ids)} rows of the batch"
            )
        return output

    def fetch(self, output: torch.Tensor, ids: Sequence[int]) -> Callable[[], torch.Tensor]:
        """Start to bring predictions to the CPU, while the next batch is in the model.

        Returns:
            What waits for them. It raises ModelError where the device has failed at this batch.
        """
        arrived = self._transfer.fetch(output)

        def wait() -> torch.Tensor:
            try:
                return arrived()
            except Exception as error:
                raise _failure("the model", ids, error) from error

        return wait

    def _call(self, inputs: Any) -> Any:
        if isinstance(inputs, tuple):
            return self._model(*inputs)
        return self._model(**inputs) if isinstance(inputs, dict) else self._model(inputs)

    def probe(self, source: Source, num_tries: int) -> tuple[RowType, int | None]:
        """The shape and dtype of a row of predictions, and the row by which they were found.

        Tries the first `num_tries` rows, until one works; a row of zeros where there are none.

        Raises:
            InputError, ModelError: the error of the first row, where none works.
        """
        if not source.num_rows:
            return self._row_type(zero_row(source), 0), None
        first_error: InputError | None = None
        for row in range(min(num_tries, source.num_rows)):
            try:
                return self._row_type(source.read(row, row + 1), row), row
            except InputError as error:
                first_error = first_error or error
        assert first_error is not None
        raise first_error

    def _row_type(self, rows: Rows, row: int) -> RowType:
        output = self.forward(self.prepare(rows, [row]), [row])
        return RowType(tuple(output.shape[1:]), _stored_dtype(output))

    def _dtype_hint(self, inputs: Any) -> str:
        """What to do where rows and model are of different floating-point dtypes, the commonest mistake."""
        wanted = next((p.dtype for p in self._model.parameters() if p.is_floating_point()), None)
        if not isinstance(inputs, torch.Tensor) or wanted is None or inputs.dtype == wanted:
            return ""
        return f" The model's input is {inputs.dtype}, its weights are {wanted}: convert it with --preprocess"


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


def check_row_type(output: torch.Tensor, row_type: RowType, ids: Sequence[int]) -> None:
    """Raise ModelError unless a batch of predictions has rows of this type."""
    found = RowType(tuple(output.shape[1:]), _stored_dtype(output))
    if found != row_type:
        raise ModelError(
            f"the model gave {found} per row for {name_rows(ids)} and {row_type} for the first row; "
            "every row must be of one shape and dtype"
        )


def copy_out(output: torch.Tensor, rows: np.ndarray) -> None:
    """Copy predictions from their device into rows in memory, even on the CPU: a model may use its output again."""
    torch.from_numpy(rows).copy_(output)


def _failure(what: str, ids: Sequence[int], error: Exception, hint: str = "") -> Exception:
    kind: type[InputError] = ModelError
    if isinstance(error, InputError):
        kind = type(error)
    elif _is_memory_shortage(error):
        kind = MemoryShortage
    failure = kind(f"{what} failed on {name_rows(ids)}: {describe(error)}.{hint}", traceback_of(error))
    if kind is MemoryShortage:
        traceback.clear_frames(error.__traceback__)  # the model's frames hold what it had allocated
    return failure


def _is_memory_shortage(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)  # on the CPU it has no type
