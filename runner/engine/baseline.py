"""Speed of this rank alone, measured on a few chunks or a batch whose results are discarded."""

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass

from runner.chunks.grid import Chunk, Grid
from runner.core.errors import InputError
from runner.engine.loop import Engine
from runner.engine.observer import Observer
from runner.engine.predictor import Predictor
from runner.engine.reader import BatchReader
from runner.sources import Source

_WARM_CHUNKS = 2
_MOST_CHUNKS = 200
_SECONDS = 5.0
_MOST_BATCHES = 4  # of a chunk
_TIMES = 3
_STRIDE = 0.618034  # the golden section: any number of chunks lies about evenly over the data


@dataclass(frozen=True)
class Speed:
    """Speed of one rank alone.

    Attributes:
        rows: number of rows that were timed.
        seconds: time they took.
        forward_seconds: part of it in forward calls.
        output_bytes: size of their predictions.
    """

    rows: int = 0
    seconds: float = 0.0
    forward_seconds: float = 0.0
    output_bytes: int = 0

    @property
    def rows_per_second(self) -> float | None:
        """Rows per second; None where nothing could be timed."""
        return self.rows / self.seconds if self.seconds else None


def measure_single_rank(engine: Engine) -> Speed:
    """Compute chunks for about five seconds; the results are discarded.

    Raises:
        InputError, ModelError: see `Engine.run`.
    """
    observer = Observer.silent()
    timeline = observer.timeline
    chunks = dataclasses.replace(engine, observer=observer).run(_some_chunks(engine.grid))
    rows = 0
    seconds = 0.0
    output_bytes = 0
    forward = 0.0
    warm_forward = 0.0
    began = last = time.perf_counter()
    for number, (commit, predictions) in enumerate(chunks):
        timeline.turn("backpressure")
        if number == _WARM_CHUNKS:
            rows = 0
            output_bytes = 0
            began = last
            warm_forward = forward  # the first calls of a model take longer
        last, forward = time.perf_counter(), timeline.seconds()["forward"]
        rows, seconds = rows + commit.stop - commit.start, last - began
        output_bytes += predictions.nbytes
        if number >= _WARM_CHUNKS and seconds > _SECONDS:
            break
    return Speed(rows, seconds, forward - warm_forward, output_bytes)


def time_batch(source: Source, grid: Grid, predictor: Predictor) -> float:
    """Return the shortest of three times, in seconds, to read, prepare and compute the first batch of `grid`.

    Raises:
        InputError, ModelError: the batch fails.
    """
    chunk = grid.chunk(0)
    seconds = []
    for _ in range(_TIMES):
        reader = BatchReader(source, grid, predictor.batching)
        began = time.perf_counter()
        for part in reader.read(chunk, chunk.start, chunk.stop):
            if isinstance(part.rows, InputError):
                raise part.rows
            predictor.forward(predictor.prepare(part.rows, part.ids), part.ids)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def _some_chunks(grid: Grid) -> Iterator[Chunk]:
    """Yield beginnings of chunks all over the data, of a few batches each; the first ones serve as warm-up."""
    for number in range(min(_MOST_CHUNKS, _WARM_CHUNKS + grid.num_chunks) if grid.num_chunks else 0):
        chunk = grid.chunk(int(number * _STRIDE % 1 * grid.num_chunks))
        yield dataclasses.replace(chunk, stop=min(chunk.stop, chunk.start + _MOST_BATCHES * grid.batch_size))
