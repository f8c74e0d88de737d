"""A few chunks computed by this rank alone, for their speed; what comes of them is not kept."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runner.chunks.grid import Chunk, Grid
from runner.comm.watchdog import Activity
from runner.data.rows import RowTypes
from runner.engine.loop import infer
from runner.engine.predictor import Inference
from runner.engine.recovery import Rescue
from runner.host.stop import Stop
from runner.sources import Source
from runner.telemetry.timeline import Timeline

_WARM_CHUNKS, _MOST_CHUNKS, _SECONDS = 2, 200, 5.0
_MOST_BATCHES = 4  # of a chunk: a few
_STRIDE = 0.618034  # the golden section: however many chunks are taken, they lie about evenly over the data


@dataclass(frozen=True)
class Speed:
    """What was found.

    Attributes:
        rows: how many were timed.
        seconds: what they took.
        forward_seconds: of these, in forward calls.
        output_bytes: their predictions.
    """

    rows: int = 0
    seconds: float = 0.0
    forward_seconds: float = 0.0
    output_bytes: int = 0

    @property
    def rows_per_second(self) -> float | None:
        """None where nothing could be timed."""
        return self.rows / self.seconds if self.seconds else None


def measure_alone(
    grid: Grid,
    source: Source,
    inference: Inference,
    rescue: Rescue,
    row_type: RowTypes,
    keep: Sequence[str],
    on_nonfinite: str,
) -> Speed:
    """Compute chunks for about five seconds, with the arguments of `infer`.

    Raises:
        InputError, ModelError: as `infer`.
    """
    timeline = Timeline(0.0)
    chunks = infer(
        _some_chunks(grid),
        grid,
        source,
        inference,
        rescue,
        row_type,
        keep,
        Stop(None),
        Activity(),
        0,
        timeline,
        on_nonfinite,
    )
    rows, seconds, output_bytes, forward, warm_forward = 0, 0.0, 0, 0.0, 0.0
    began = last = time.perf_counter()
    for number, (commit, predictions) in enumerate(chunks):
        timeline.turn("wait_room")
        if number == _WARM_CHUNKS:
            rows, output_bytes, began, warm_forward = 0, 0, last, forward  # the first calls of a model take longer
        last, forward = time.perf_counter(), timeline.seconds()["forward"]
        rows, seconds = rows + commit.stop - commit.start, last - began
        output_bytes += predictions.nbytes
        if number >= _WARM_CHUNKS and seconds > _SECONDS:
            break
    return Speed(rows, seconds, forward - warm_forward, output_bytes)


def _some_chunks(grid: Grid) -> Iterator[Chunk]:
    """Beginnings of chunks all over the data, of a few batches each; the first are to warm up with."""
    for number in range(min(_MOST_CHUNKS, _WARM_CHUNKS + grid.num_chunks) if grid.num_chunks else 0):
        chunk = grid.chunk(int(number * _STRIDE % 1 * grid.num_chunks))
        yield dataclasses.replace(chunk, stop=min(chunk.stop, chunk.start + _MOST_BATCHES * grid.batch_size))
