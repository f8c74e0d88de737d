"""One rank's loop: read ahead, batch, forward, hand over whole chunks. Knows nothing of other ranks."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from runner.chunks.commit import Commit
from runner.chunks.grid import Chunk, Grid
from runner.comm.watchdog import Activity
from runner.core.errors import InputError
from runner.data.columns import Columns
from runner.data.outputs import Outputs
from runner.data.rows import RowTypes, concatenate, name_rows, zero_row
from runner.engine.chunk_builder import Draft
from runner.engine.predictor import Inference, Prepared
from runner.engine.reader import BatchReader
from runner.engine.recovery import Rescue, Rescued
from runner.host.stop import Stop
from runner.sources import Source
from runner.telemetry.timeline import Timeline

Item = TypeVar("Item")
Read = TypeVar("Read")

_READ_AHEAD = 2  # batches that are read and preprocessed while one is in the model


def infer(
    chunks: Iterable[Chunk],
    grid: Grid,
    source: Source,
    inference: Inference,
    rescue: Rescue,
    row_type: RowTypes,
    keep: Sequence[str],
    stop: Stop,
    activity: Activity,
    rank: int,
    timeline: Timeline,
    on_nonfinite: str,
) -> Iterator[tuple[Commit, np.ndarray]]:
    """Compute chunks, until there are no more or it is time to stop.

    Args:
        rank: of this one.
        timeline: learns where the time goes.

    Yields:
        (commit, predictions): what there is to know of a chunk, and its predictions, with a gap for each bad row; of
        shape `(commit.stop - commit.start, *row_type.shape)`, or packed where rows are of unlike sizes.

    Raises:
        InputError, ModelError: what `rescue` does not deal with; a batch whose rows are not of `row_type`.
    """
    reader = BatchReader(source, grid, inference.batching)

    def read(batch: tuple[Chunk, int, int]) -> list[_Prepared]:
        began = time.perf_counter()
        prepared = []
        for ids, rows, digest in reader.read(*batch):
            kept: Columns = {}
            inputs: Prepared | InputError
            try:
                if isinstance(rows, InputError):
                    kept = kept_one_by_one(ids) if keep else {}
                    inputs = rows
                else:
                    kept = inference.kept(rows)
                    inputs = inference.prepare(rows, ids)
            except InputError as error:
                inputs = error
            prepared.append(_Prepared(ids, inputs, digest, kept))
        timeline.add("read", began, time.perf_counter())
        return prepared

    def kept_one_by_one(ids: Sequence[int]) -> Columns:
        """Of a batch that cannot be read as a whole: what is to be kept of the rows that can be."""
        rows = []
        for row in ids:
            try:
                rows.append(source.read(row, row + 1))
            except InputError:
                rows.append(zero_row(source.row_type))
        return inference.kept(concatenate(rows))

    batches = ((chunk, first, last) for chunk in chunks for first, last in grid.batches(chunk))

    def forward(part: _Prepared) -> Rescued:
        try:
            if isinstance(part.inputs, InputError):
                raise part.inputs
            return Rescued(inference.forward(part.inputs, part.ids), [], halved=False, cut=part.inputs.cut)
        except InputError as error:
            return rescue(part.ids, error)

    def compute() -> Iterator[_Computed]:
        timeline.turn("wait_rows")
        chunk_began = waited_since = time.perf_counter()
        draft = Draft(Chunk(0, 0, 0), row_type, keep)
        activity.begin("reading the first rows")
        for (chunk, first, last), parts in read_ahead(batches, read, _READ_AHEAD):
            if first == chunk.start:
                if not stop.may_start():
                    return
                chunk_began = waited_since
                draft = Draft(chunk, row_type, keep)
            for part in parts:
                activity.begin(f"computing {name_rows(part.ids)}")
                timeline.turn("forward")
                began = time.perf_counter()
                batch = forward(part)
                outputs = None if batch.outputs is None else inference.fetch(batch.outputs, part.ids)
                seconds = time.perf_counter() - began
                is_last = last == chunk.stop and part is parts[-1]
                yield _Computed(draft, part, batch, outputs, seconds, chunk_began, is_last)
                activity.begin(f"reading what follows row {last}")
                timeline.turn("wait_rows")
                waited_since = time.perf_counter()

    for computed in behind(compute(), inference.num_behind):
        timeline.turn("forward")
        began = time.perf_counter()
        part, outputs = computed.part, None if computed.outputs is None else computed.outputs()
        computed.draft.add(part.ids, computed.batch, outputs, part.kept, part.checksum)
        ended = time.perf_counter()
        timeline.count_batch(len(part.ids), computed.seconds + ended - began)
        if computed.is_last:
            stop.took(ended - computed.chunk_began)
            began = computed.chunk_began
            yield computed.draft.finish(rank, timeline.at(began), ended - began, on_nonfinite)


@dataclass(frozen=True)
class _Prepared:
    """Rows that go through the model together."""

    ids: Sequence[int]
    inputs: Prepared | InputError  # an error, of reading or preparing, is for the main thread to see to, in its turn
    checksum: str | None  # of the rows as they were read, before preprocessing, which may change them in place
    kept: Columns  # of the data, beside the predictions


@dataclass(frozen=True)
class _Computed:
    """Rows that have been through the model; their predictions may still be on their way from the device."""

    draft: Draft
    part: _Prepared
    batch: Rescued
    outputs: Callable[[], Outputs] | None
    seconds: float  # so far
    chunk_began: float
    is_last: bool  # of its chunk


def behind(items: Iterable[Item], num_behind: int) -> Iterator[Item]:
    """The items, each once so many more have been made."""
    pending: deque[Item] = deque()
    for item in items:
        pending.append(item)
        if len(pending) > num_behind:
            yield pending.popleft()
    yield from pending


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
