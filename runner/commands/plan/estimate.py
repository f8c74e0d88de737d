"""What a job takes on so many ranks: arithmetic on what one rank has been seen to take. Pure."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from runner.chunks.grid import Grid, share
from runner.chunks.schedule import MissingChunks
from runner.config.collect_modes import COLLECT_MODES
from runner.config.formats import find_output_format

# Assumptions, each named in the plan. Slow networks and storage are slower, fast ones faster.
LAUNCH_SECONDS = 1.0  # MPI and Horovod
NETWORK = 1e9  # bytes/s into one host
ALLGATHER = 4e9  # bytes/s by ranks: each gets what all have; a fit to 2, 4 and 8 ranks on one host
STORAGE = 5e8  # bytes/s of one writer
MPI_BYTES = 80 << 20  # of memory, that MPI and Horovod take on a rank


@dataclass(frozen=True)
class Work:
    """What there is to do.

    Attributes:
        item_rows: the rows of each piece of the data that is not computed yet and that one rank must compute.
        item_chunks: and its chunks.
        output_bytes: predictions of all rows, the resumed ones too.
        fraction: the part of them that is still to be computed.
        collect: as the option.
        is_dynamic: whoever is free takes the next rows.
        format_speed: bytes a second from the spool into the format of the output; None where there is no spool.
    """

    item_rows: Sequence[int]
    item_chunks: Sequence[int]
    output_bytes: int
    fraction: float
    collect: str
    is_dynamic: bool
    format_speed: float | None

    @property
    def rows(self) -> int:
        """To be computed."""
        return sum(self.item_rows)

    def per_rank(self, ranks: int, of: Sequence[int]) -> list[int]:
        """Rows or chunks of each rank's even share."""
        sums = [0, *itertools.accumulate(of)]
        slices = (share(len(of), rank, ranks) for rank in range(ranks))
        return [sums[part.stop] - sums[part.start] for part in slices]


@dataclass(frozen=True)
class Pace:
    """What one rank has been seen to take, or one group of ranks that hold the model together.

    Attributes:
        rows_per_second: while it computes.
        startup_seconds: to its first chunk, of one process alone.
        model_bytes: to be sent to the others.
        is_of_a_job: the start-up is that of a job, with MPI in it.
        model_parallel: ranks that held the model together.
    """

    rows_per_second: float
    startup_seconds: float
    model_bytes: int
    is_of_a_job: bool
    model_parallel: int = 1


@dataclass(frozen=True)
class Times:
    """Seconds of a job. Computing, collecting and writing overlap."""

    startup: float
    compute: float
    collect: float
    write: float
    finish: float

    @property
    def loop(self) -> float:
        """From the first batch until all predictions are collected."""
        return max(self.compute, self.collect, self.write)

    @property
    def total(self) -> float:
        """Of the whole command."""
        return self.startup + self.loop + self.finish

    @property
    def most(self) -> str:
        """What takes the most."""
        parts = {
            "computing": self.compute,
            "start-up": self.startup,
            "collecting": self.collect,
            "writing": self.write,
            "the end": self.finish,
        }
        return max(parts, key=lambda name: parts[name])


def find_work(
    grid: Grid, committed: frozenset[int], output_bytes: int, collect: str, schedule: str, output: str
) -> Work:
    """What is left to do of a job."""
    missing = MissingChunks(grid, committed)
    items = [missing[position] for position in range(len(missing))]
    item_rows = [sum(chunk.stop - chunk.start for chunk in map(grid.chunk, item)) for item in items]
    return Work(
        item_rows=item_rows,
        item_chunks=[len(item) for item in items],
        output_bytes=output_bytes,
        fraction=sum(item_rows) / max(1, grid.num_rows),
        collect=collect,
        is_dynamic=schedule == "dynamic",
        format_speed=find_output_format(output)[0].bytes_per_second,
    )


def times(work: Work, pace: Pace, ranks: int, model_parallel: int = 1) -> Times:
    """Of a job on so many ranks, which do not slow one another down; or groups, of `model_parallel` ranks each."""
    startup = pace.startup_seconds
    if ranks * model_parallel > 1 and not pace.is_of_a_job:
        startup += LAUNCH_SECONDS + pace.model_bytes / NETWORK
    rows = max(work.per_rank(ranks, work.item_rows))
    if work.is_dynamic:  # an even share, and one piece more
        rows = min(rows, work.rows // ranks + max(work.item_rows, default=0))
    new_bytes = work.output_bytes * work.fraction
    carried = 0.0
    mode = COLLECT_MODES[work.collect]
    if mode.moves_rows:
        rate = NETWORK if mode.to_root_only else min(NETWORK, ALLGATHER / ranks)
        carried = new_bytes * (ranks - 1) / ranks / rate
    return Times(
        startup=startup,
        compute=rows / pace.rows_per_second,
        collect=carried,
        write=new_bytes / STORAGE,
        finish=work.output_bytes / work.format_speed if work.format_speed else 0.0,
    )


def efficiency(work: Work, pace: Pace, ranks: int, model_parallel: int = 1) -> float:
    """The part of all ranks' time in which predictions are computed; arguments as `times` has them."""
    total = times(work, pace, ranks, model_parallel).total
    return work.rows / pace.rows_per_second / (ranks * total) if total else 0.0
