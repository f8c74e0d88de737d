"""One rank's loop: read ahead, batch, forward, hand over whole chunks. Knows nothing of other ranks."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from runner.errors import InputError, ModelError, describe, traceback_of
from runner.grid import Chunk, Grid
from runner.sinks import RowType
from runner.sources import Source
from runner.stats import Seconds
from runner.stop import Stop
from runner.transforms import Transform
from runner.watch import Activity

Item = TypeVar("Item")
Read = TypeVar("Read")

_READ_AHEAD = 2  # batches that are read and preprocessed while one is in the model


class Inference:
    """The way of one batch: rows, preprocess, model, postprocess, predictions.

    Args:
        model: in evaluation mode, on `device`.
        device: where the model is.
        preprocess: from a CPU tensor of rows `(batch, *row_shape)` to the model's input, or None.
        postprocess: from the model's output to a tensor `(batch, ...)`, or None.
    """

    def __init__(
        self, model: nn.Module, device: torch.device, preprocess: Transform | None, postprocess: Transform | None
    ) -> None:
        self._model, self._device, self._preprocess, self._postprocess = model, device, preprocess, postprocess

    def prepare(self, rows: np.ndarray, start: int) -> Any:
        """The model's input for rows that begin at row `start`, on the CPU.

        Raises:
            ModelError: the user's function failed.
        """
        batch = torch.from_numpy(rows)
        if self._preprocess is None:
            return batch
        try:
            with torch.inference_mode():
                return self._preprocess(batch)
        except Exception as error:
            raise _failure("--preprocess", start, len(rows), error) from error

    def forward(self, inputs: Any, start: int, num_rows: int) -> torch.Tensor:
        """The predictions for a prepared batch: `(num_rows, ...)`, on the model's device.

        Raises:
            ModelError: the model or the user's function failed, or gave something else than one row for each.
        """
        with torch.inference_mode():
            try:
                output = self._model(_to_device(inputs, self._device))
            except Exception as error:
                raise _failure("the model", start, num_rows, error, self._dtype_hint(inputs)) from error
            if self._postprocess is not None:
                try:
                    output = self._postprocess(output)
                except ModelError:
                    raise
                except Exception as error:
                    raise _failure("--postprocess", start, num_rows, error) from error
        if not isinstance(output, torch.Tensor):
            raise ModelError(
                f"the model gave a {type(output).__name__} for rows {start}..{start + num_rows}; one tensor is needed. "
                "Choose it with --postprocess module:function"
            )
        if output.ndim == 0 or output.shape[0] != num_rows:
            raise ModelError(
                f"the model gave shape {tuple(output.shape)} for rows {start}..{start + num_rows}; "
                f"its first axis must be the {num_rows} rows of the batch"
            )
        return output

    def probe(self, source: Source) -> RowType:
        """The shape and dtype of a row of predictions, found by trying the first row; a zero row where there is none.

        Raises:
            InputError, ModelError: the way of a batch does not work.
        """
        rows = source.read(0, 1) if source.num_rows else np.zeros((1, *source.row_shape), source.dtype)
        output = self.forward(self.prepare(rows, 0), 0, 1)
        return RowType(tuple(output.shape[1:]), _stored_dtype(output))

    def _dtype_hint(self, inputs: Any) -> str:
        """What to do where rows and model are of different floating-point dtypes, the commonest mistake."""
        wanted = next((p.dtype for p in self._model.parameters() if p.is_floating_point()), None)
        if not isinstance(inputs, torch.Tensor) or wanted is None or inputs.dtype == wanted:
            return ""
        return f" The model's input is {inputs.dtype}, its weights are {wanted}: convert it with --preprocess"


def infer(
    chunks: Iterable[Chunk],
    grid: Grid,
    source: Source,
    inference: Inference,
    row_type: RowType,
    stop: Stop,
    activity: Activity,
    seconds: Seconds,
) -> Iterator[tuple[Chunk, np.ndarray, float]]:
    """Compute chunks, until there are no more or it is time to stop.

    Yields:
        (chunk, predictions, seconds): predictions of shape `(chunk.stop - chunk.start, *row_type.shape)`.

    Raises:
        InputError, ModelError: as they happen; a batch whose rows are not of `row_type` is one.
    """

    def read(batch: tuple[Chunk, int, int]) -> Any:
        began = time.perf_counter()
        _, first, last = batch
        inputs = inference.prepare(source.read(first, last), first)
        seconds.read += time.perf_counter() - began
        return inputs

    batches = ((chunk, first, last) for chunk in chunks for first, last in grid.batches(chunk))
    chunk_began = waited_since = time.perf_counter()
    predictions = np.empty(0)
    activity.begin("reading the first rows")
    for (chunk, first, last), inputs in read_ahead(batches, read, _READ_AHEAD):
        activity.begin(f"computing rows {first}..{last}")
        began = time.perf_counter()
        seconds.wait += began - waited_since
        if first == chunk.start:
            if not stop.may_start():
                return
            chunk_began = waited_since
            predictions = np.empty((chunk.stop - chunk.start, *row_type.shape), row_type.dtype)
        output = inference.forward(inputs, first, last - first)
        _check_row_type(output, row_type, first, last)
        # a copy even on the CPU: a model may use the memory of its output again in the next call
        torch.from_numpy(predictions[first - chunk.start : last - chunk.start]).copy_(output)
        ended = time.perf_counter()
        seconds.forward += ended - began
        if last == chunk.stop:
            stop.took(ended - chunk_began)
            yield chunk, predictions, ended - chunk_began
        activity.begin(f"reading what follows row {last}")
        waited_since = time.perf_counter()


def read_ahead(items: Iterable[Item], read: Callable[[Item], Read], depth: int) -> Iterator[tuple[Item, Read]]:
    """Yield `(item, read(item))` in order, reading up to `depth` items ahead in one thread.

    A thread, because a process forked after MPI has started is unsafe on many fabrics.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="reader")
    pending: deque[tuple[Item, Future[Read]]] = deque()
    try:
        for item in items:
            pending.append((item, pool.submit(read, item)))
            if len(pending) > depth:
                first, future = pending.popleft()
                yield first, future.result()
        while pending:
            first, future = pending.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _to_device(inputs: Any, device: torch.device) -> Any:
    if isinstance(inputs, torch.Tensor):
        return inputs.to(device)
    if isinstance(inputs, dict):
        return {key: _to_device(value, device) for key, value in inputs.items()}
    if isinstance(inputs, list | tuple):
        return type(inputs)(_to_device(value, device) for value in inputs)
    return inputs


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


def _check_row_type(output: torch.Tensor, row_type: RowType, start: int, stop: int) -> None:
    found = RowType(tuple(output.shape[1:]), _stored_dtype(output))
    if found != row_type:
        raise ModelError(
            f"the model gave {found} per row for rows {start}..{stop} and {row_type} for the first row; "
            "every row must be of one shape and dtype"
        )


def _failure(what: str, start: int, num_rows: int, error: Exception, hint: str = "") -> Exception:
    kind = type(error) if isinstance(error, InputError) else ModelError
    return kind(f"{what} failed on rows {start}..{start + num_rows}: {describe(error)}.{hint}", traceback_of(error))
