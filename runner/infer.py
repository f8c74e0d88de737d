"""One rank's loop: read ahead, batch, forward, hand over whole chunks. Knows nothing of other ranks."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch

from runner.batch import Inference, check_row_type
from runner.errors import InputError
from runner.grid import Chunk, Grid
from runner.quarantine import BadRow, Rescue, fill_value
from runner.sinks import RowType
from runner.sources import Source
from runner.stats import Seconds
from runner.stop import Stop
from runner.watch import Activity

Item = TypeVar("Item")
Read = TypeVar("Read")

_READ_AHEAD = 2  # batches that are read and preprocessed while one is in the model


def infer(
    chunks: Iterable[Chunk],
    grid: Grid,
    source: Source,
    inference: Inference,
    rescue: Rescue,
    row_type: RowType,
    stop: Stop,
    activity: Activity,
    seconds: Seconds,
) -> Iterator[tuple[Chunk, np.ndarray, list[BadRow], float]]:
    """Compute chunks, until there are no more or it is time to stop.

    Yields:
        (chunk, predictions, bad, seconds): predictions of shape `(chunk.stop - chunk.start, *row_type.shape)`, with a
        gap for each bad row.

    Raises:
        InputError, ModelError: what `rescue` does not deal with; a batch whose rows are not of `row_type`.
    """

    def read(batch: tuple[Chunk, int, int]) -> Any:
        began = time.perf_counter()
        _, first, last = batch
        try:
            return inference.prepare(source.read(first, last), first)
        except InputError as error:
            return error  # for the main thread to see to, in its turn
        finally:
            seconds.read += time.perf_counter() - began

    batches = ((chunk, first, last) for chunk in chunks for first, last in grid.batches(chunk))
    chunk_began = waited_since = time.perf_counter()
    predictions = np.empty(0)
    bad: list[BadRow] = []
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
            bad = []
        output: torch.Tensor | None
        try:
            if isinstance(inputs, InputError):
                raise inputs
            output = inference.forward(inputs, first, last - first)
        except InputError as error:
            output, found = rescue(first, last, error)
            bad += found
        if output is not None:
            check_row_type(output, row_type, first, last)
            # a copy even on the CPU: a model may use the memory of its output again in the next call
            torch.from_numpy(predictions[first - chunk.start : last - chunk.start]).copy_(output)
        ended = time.perf_counter()
        seconds.forward += ended - began
        if last == chunk.stop:
            stop.took(ended - chunk_began)
            predictions[[row.row - chunk.start for row in bad]] = fill_value(row_type.dtype)
            yield chunk, predictions, bad, ended - chunk_began
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
