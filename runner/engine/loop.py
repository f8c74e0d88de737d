"""Loop of one rank: read ahead, batch, forward, hand over complete chunks. Knows nothing of other ranks."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from runner.chunks.commit import Commit
from runner.chunks.grid import Chunk, Grid
from runner.core.errors import InputError
from runner.data.columns import Columns
from runner.data.outputs import Outputs
from runner.data.rows import RowTypes, name_rows
from runner.engine.chunk_builder import ChunkBuilder
from runner.engine.kept import KeptReader, Unread
from runner.engine.observer import Observer
from runner.engine.predictor import Predictor, Prepared
from runner.engine.reader import BatchReader
from runner.engine.recovery import BatchRecovery, RecoveredBatch
from runner.sources import Source

Item = TypeVar("Item")
Read = TypeVar("Read")

_READ_AHEAD = 2  # batches that are read and preprocessed while one is in the model


@dataclass(frozen=True)
class Engine:
    """Loop of one rank: read ahead, prepare, forward, hand over complete chunks. Knows nothing of other ranks.

    Attributes:
        source: the data set.
        grid: the partition of the rows.
        predictor: the model with its pre- and post-processing.
        recovery: handles a batch that fails.
        row_type: type of a row of predictions, with the passthrough columns.
        kept_reader: reads passthrough columns of rows that cannot be read whole; None where there are none.
        on_nonfinite: the handling of predictions that are not finite, see `Config.on_nonfinite`.
        observer: is told what the loop is doing, and tells when it must stop.
        rank: rank of this process, for the records.
    """

    source: Source
    grid: Grid
    predictor: Predictor
    recovery: BatchRecovery
    row_type: RowTypes
    kept_reader: KeptReader | None
    on_nonfinite: str
    observer: Observer
    rank: int

    def run(self, chunks: Iterable[Chunk]) -> Iterator[tuple[Commit, np.ndarray]]:
        """Compute chunks until there are no more or it is time to stop.

        Yields:
            (commit, predictions): the record of a chunk, and its predictions, with a fill value for each bad row; of
            shape `(commit.stop - commit.start, *row_type.shape)`, or packed as 1-D uint8 where rows are of variable
            length.

        Raises:
            InputError, ModelError: `recovery` cannot handle it, or the rows of a batch are not of `row_type`.
        """
        timeline = self.observer.timeline
        for computed in delayed(self._compute(chunks), self.predictor.num_behind):
            timeline.turn("forward")
            began = time.perf_counter()
            part = computed.part
            outputs = None if computed.outputs is None else computed.outputs()
            computed.builder.add(part.ids, computed.batch, outputs, part.kept, part.unread, part.checksum)
            ended = time.perf_counter()
            timeline.count_batch(len(part.ids), computed.seconds + ended - began)
            if computed.is_last:
                seconds = ended - computed.chunk_began
                self.observer.stop.took(seconds)
                began = timeline.at(computed.chunk_began)
                yield computed.builder.finish(self.rank, began, seconds, self.on_nonfinite)

    def _compute(self, chunks: Iterable[Chunk]) -> "Iterator[_Computed]":
        """Yield the batches of chunks, in order, as they come out of the model."""
        stop = self.observer.stop
        activity = self.observer.activity
        timeline = self.observer.timeline
        reader = BatchReader(self.source, self.grid, self.predictor.batching)
        batches = ((chunk, first, last) for chunk in chunks for first, last in self.grid.batches(chunk))
        timeline.turn("data_wait")
        chunk_began = waited_since = time.perf_counter()
        builder = ChunkBuilder(Chunk(0, 0, 0), self.row_type, self.predictor.keep)
        activity.begin("reading the first rows")
        for (chunk, first, last), parts in read_ahead(batches, lambda batch: self._read(reader, *batch), _READ_AHEAD):
            if first == chunk.start:
                if not stop.may_start():
                    return
                chunk_began = waited_since
                builder = ChunkBuilder(chunk, self.row_type, self.predictor.keep)
            for part in parts:
                activity.begin(f"computing {name_rows(part.ids)}")
                timeline.turn("forward")
                began = time.perf_counter()
                batch = self._forward(part)
                outputs = None if batch.outputs is None else self.predictor.fetch(batch.outputs, part.ids)
                seconds = time.perf_counter() - began
                is_last = last == chunk.stop and part is parts[-1]
                yield _Computed(builder, part, batch, outputs, seconds, chunk_began, is_last)
                activity.begin(f"reading what follows row {last}")
                timeline.turn("data_wait")
                waited_since = time.perf_counter()

    def _read(self, reader: BatchReader, chunk: Chunk, first: int, last: int) -> "list[_Prepared]":
        """Read and prepare a batch; called in the reader's thread."""
        began = time.perf_counter()
        prepared = []
        for ids, rows, digest in reader.read(chunk, first, last):
            kept: Columns = {}
            unread: Unread = {}
            inputs: Prepared | InputError
            try:
                if isinstance(rows, InputError):
                    if self.kept_reader:
                        kept, unread = self.kept_reader.read(self.source, ids)
                    inputs = rows
                else:
                    kept = self.predictor.kept(rows)
                    inputs = self.predictor.prepare(rows, ids)
            except InputError as error:
                inputs = error
            prepared.append(_Prepared(ids, inputs, digest, kept, unread))
        self.observer.timeline.add("read", began, time.perf_counter())
        return prepared

    def _forward(self, part: "_Prepared") -> RecoveredBatch:
        try:
            if isinstance(part.inputs, InputError):
                raise part.inputs
            return RecoveredBatch(
                self.predictor.forward(part.inputs, part.ids), [], is_split=False, cut=part.inputs.cut
            )
        except InputError as error:
            return self.recovery(part.ids, error)


@dataclass(frozen=True)
class _Prepared:
    """Rows of one forward call."""

    ids: Sequence[int]
    inputs: Prepared | InputError  # the main thread handles an error of reading or preparing, in its turn
    checksum: str | None  # of the rows as read, before preprocessing, which may change them in place
    kept: Columns  # passthrough columns
    unread: Unread


@dataclass(frozen=True)
class _Computed:
    """Rows that have been through the model; their predictions may still be in transfer from the device."""

    builder: ChunkBuilder
    part: _Prepared
    batch: RecoveredBatch
    outputs: Callable[[], Outputs] | None
    seconds: float  # so far
    chunk_began: float
    is_last: bool  # of its chunk


def delayed(items: Iterable[Item], depth: int) -> Iterator[Item]:
    """Yield each item after `depth` more have been produced."""
    pending: deque[Item] = deque()
    for item in items:
        pending.append(item)
        if len(pending) > depth:
            yield pending.popleft()
    yield from pending


def read_ahead(items: Iterable[Item], read: Callable[[Item], Read], depth: int) -> Iterator[tuple[Item, Read]]:
    """Yield `(item, read(item))` in order, reading up to `depth` items ahead in one thread.

    A thread, because a process forked after MPI has started is unsafe on many network fabrics.
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
