"""Estimates of a job's time on a number of ranks, calculated from measurements of one rank."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from runner.chunks.grid import Grid, share
from runner.chunks.schedule import MissingChunks
from runner.config.collect_modes import COLLECT_MODES
from runner.config.formats import find_output_format

# Assumptions, each named in the plan. Slow networks and storage are slower, fast ones faster.
LAUNCH_SECONDS = 1.0  # MPI and Horovod
NETWORK = 1 << 30  # bytes/s into one host
ALLGATHER = 4 << 30  # bytes/s by ranks: each gets what all have; a fit to 2, 4 and 8 ranks on one host
STORAGE = 512 << 20  # bytes/s of one writer
MPI_BYTES = 80 << 20  # of memory, that MPI and Horovod take on a rank


@dataclass(frozen=True)
class Work:
    """The work of a job, in rows and bytes.

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
        """The number of rows to compute."""
        return sum(self.item_rows)

    def per_rank(self, ranks: int, of: Sequence[int]) -> list[int]:
        """Return the rows or chunks in each rank's even share."""
        sums = [0, *itertools.accumulate(of)]
        slices = (share(len(of), rank, ranks) for rank in range(ranks))
        return [sums[part.stop] - sums[part.start] for part in slices]


@dataclass(frozen=True)
class Pace:
    """The measured speed of one rank, or of one group of ranks that hold the model together.

    Attributes:
        rows_per_second: rows per second during computation.
        startup_seconds: seconds to the first chunk, of a single process or of a job; see `is_of_a_job`.
        model_bytes: bytes to send to the other ranks.
        is_of_a_job: whether the start-up is that of a job with several ranks, including MPI.
        model_parallel: number of ranks that held the model together.
    """

    rows_per_second: float
    startup_seconds: float
    model_bytes: int
    is_of_a_job: bool
    model_parallel: int = 1


@dataclass(frozen=True)
class Times:
    """The times of a job, in seconds. Computing, collecting and writing overlap."""

    startup: float
    compute: float
    collect: float
    write: float
    finish: float

    @property
    def loop(self) -> float:
        """The seconds from the first batch until all predictions are collected."""
        return max(self.compute, self.collect, self.write)

    @property
    def total(self) -> float:
        """The seconds of the whole command."""
        return self.startup + self.loop + self.finish

    @property
    def most(self) -> str:
        """The name of the part that takes the most time."""
        parts = {
            "computing": self.compute,
            "start-up": self.startup,
            "collecting": self.collect,
            "writing": self.write,
            "finishing": self.finish,
        }
        return max(parts, key=lambda name: parts[name])


def find_work(
    grid: Grid, committed: frozenset[int], output_bytes: int, collect: str, schedule: str, output: str
) -> Work:
    """Return the work that is left in a job."""
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
    """Estimate the times on `ranks` ranks, or groups of `model_parallel` ranks each, assuming no contention."""
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
    """Return the fraction of all ranks' time in which predictions are computed; for arguments see `times`."""
    total = times(work, pace, ranks, model_parallel).total
    return work.rows / pace.rows_per_second / (ranks * total) if total else 0.0
