"""One rank's loop: read ahead, batch, forward, hand over whole chunks. Knows nothing of other ranks."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from runner.batch import Inference, check_row_type
from runner.checksum import checksum
from runner.errors import InputError
from runner.finite import nonfinite_rows
from runner.grid import Chunk, Grid
from runner.inputs import BatchReader, chunk_checksum
from runner.ledger import Commit
from runner.outputs import Outputs, copy_out
from runner.quarantine import BadRow, Rescue, Rescued, fill
from runner.rows import RowType, name_rows, rows_checksum, span
from runner.sources import Source
from runner.stats import RankStats
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
    stats: RankStats,
    on_nonfinite: str,
) -> Iterator[tuple[Commit, np.ndarray]]:
    """Compute chunks, until there are no more or it is time to stop.

    Yields:
        (commit, predictions): what there is to know of a chunk, and its predictions of shape
        `(commit.stop - commit.start, *row_type.shape)`, with a gap for each bad row.

    Raises:
        InputError, ModelError: what `rescue` does not deal with; a batch whose rows are not of `row_type`.
    """
    seconds, reader = stats.seconds, BatchReader(source, grid)

    def read(batch: tuple[Chunk, int, int]) -> list[_Prepared]:
        began = time.perf_counter()
        prepared = []
        for ids, rows in reader.read(*batch):
            digest, inputs = "", rows
            try:
                if not isinstance(rows, InputError):
                    digest = rows_checksum(rows)  # before preprocessing, which may change them in place
                    inputs = inference.prepare(rows, ids)
            except InputError as error:
                inputs = error
            prepared.append(_Prepared(ids, inputs, digest))
        seconds.read += time.perf_counter() - began
        return prepared

    batches = ((chunk, first, last) for chunk in chunks for first, last in grid.batches(chunk))

    def forward(part: _Prepared) -> Rescued:
        try:
            if isinstance(part.inputs, InputError):
                raise part.inputs
            return Rescued(inference.forward(part.inputs, part.ids), [], halved=False)
        except InputError as error:
            return rescue(part.ids, error)

    def compute() -> Iterator[_Computed]:
        chunk_began = waited_since = time.perf_counter()
        draft = _Draft(Chunk(0, 0, 0), row_type)
        activity.begin("reading the first rows")
        for (chunk, first, last), parts in read_ahead(batches, read, _READ_AHEAD):
            if first == chunk.start:
                if not stop.may_start():
                    return
                chunk_began = waited_since
                draft = _Draft(chunk, row_type)
            for part in parts:
                activity.begin(f"computing {name_rows(part.ids)}")
                began = time.perf_counter()
                seconds.wait += began - waited_since
                batch = forward(part)
                outputs = None if batch.outputs is None else inference.fetch(batch.outputs, part.ids)
                seconds.forward += time.perf_counter() - began
                yield _Computed(draft, part, batch, outputs, chunk_began, last == chunk.stop and part is parts[-1])
                activity.begin(f"reading what follows row {last}")
                waited_since = time.perf_counter()

    for computed in behind(compute(), inference.num_behind):
        began = time.perf_counter()
        computed.draft.add(computed)
        ended = time.perf_counter()
        seconds.forward += ended - began
        if computed.is_last:
            stop.took(ended - computed.chunk_began)
            yield computed.draft.finish(stats.rank, ended - computed.chunk_began, on_nonfinite)


@dataclass(frozen=True)
class _Prepared:
    """Rows that go through the model together."""

    ids: Sequence[int]
    inputs: Any  # an InputError where they could not be read or prepared: for the main thread to see to, in its turn
    checksum: str  # of the rows as they were read


@dataclass(frozen=True)
class _Computed:
    """Rows that have been through the model; their predictions may still be on their way from the device."""

    draft: "_Draft"
    part: _Prepared
    batch: Rescued
    outputs: Callable[[], Outputs] | None
    chunk_began: float
    is_last: bool  # of its chunk


class _Draft:
    """A chunk that is being computed, batch by batch."""

    def __init__(self, chunk: Chunk, row_type: RowType) -> None:
        self._chunk, self._row_type = chunk, row_type
        self._predictions = np.empty((chunk.stop - chunk.start, *row_type.shape), row_type.dtype)
        self._bad: list[BadRow] = []
        self._halved: list[list[int]] = []
        self._input_checksums: list[str] = []

    def add(self, computed: _Computed) -> None:
        ids, start = computed.part.ids, self._chunk.start
        if computed.outputs is not None:
            outputs = computed.outputs()
            check_row_type(outputs, self._row_type, ids)
            if isinstance(ids, range):
                copy_out(outputs, self._predictions[ids.start - start : ids.stop - start])
            else:
                rows = np.empty((len(ids), *self._row_type.shape), self._row_type.dtype)
                copy_out(outputs, rows)
                self._predictions[np.asarray(ids) - start] = rows
        self._bad += computed.batch.bad
        if computed.batch.halved:
            self._halved.append(list(span(ids)))
        self._input_checksums.append(computed.part.checksum)

    def finish(self, rank: int, seconds: float, on_nonfinite: str) -> tuple[Commit, np.ndarray]:
        chunk, rows = self._chunk, self._predictions
        nonfinite = set(nonfinite_rows(rows)) - {row.row - chunk.start for row in self._bad}
        if on_nonfinite == "quarantine":
            self._bad += [BadRow(chunk.start + row, "the prediction is not finite", "") for row in nonfinite]
            nonfinite = set()
        self._bad.sort(key=lambda row: row.row)
        fill(rows, [row.row - chunk.start for row in self._bad])
        commit = Commit(
            chunk=chunk.index,
            start=chunk.start,
            stop=chunk.stop,
            checksum=checksum(rows),
            inputs=chunk_checksum(self._input_checksums) if all(self._input_checksums) else "",
            rank=rank,
            seconds=round(seconds, 6),
            nonfinite=len(nonfinite),
            bad=[asdict(row) for row in self._bad],
            halved=self._halved,
        )
        return commit, rows


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
