"""Efficiency of a job: the speed of the ranks together, against that of one alone, and where the time went.

The model is the usual one: speed is the number of ranks times the speed of one, and time is the data set over the
speed. Every second that a job takes longer than that is named: the main thread of a rank does one thing at a time, so
its phases add up to the time of the job.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from runner.telemetry.stats import RankStats

_STARTUP = ("launch", "connect", "data", "model", "checks", "output")


@dataclass(frozen=True)
class Predicted:
    """Prediction for a job like this one on another number of ranks, by the model."""

    ranks: int
    wall_seconds: float
    speedup: float


@dataclass(frozen=True)
class Efficiency:
    """Efficiency of one job; seconds are of the wall clock, averaged over the ranks.

    Attributes:
        is_measured: whether the speed of one rank was measured alone (--baseline), not taken from the ranks together.
        rank_rows_per_second: the speed of one rank: alone, or while no rank makes another wait.
        speedup: rows per second of all ranks over that of one, from the first batch to the last prediction.
        efficiency: speedup over the number of ranks; 1 is ideal.
        ideal_seconds: time of the forward calls alone on these ranks, evenly shared.
        losses: the remaining time of the job, by cause. With ideal_seconds they add up to its wall time.
        predicted: on half as many ranks, as many, one more host, twice and four times as many.
    """

    is_measured: bool
    rank_rows_per_second: float
    speedup: float
    efficiency: float
    ideal_seconds: float
    losses: dict[str, float]
    predicted: list[Predicted] = field(default_factory=list)


def find_efficiency(
    ranks: Sequence[RankStats],
    rows_per_second: float,
    loop_seconds: float,
    num_chunks: int,
    alone: tuple[float, float] | None,
    group_size: int = 1,
) -> Efficiency | None:
    """Compute the efficiency of a job; None where it has computed nothing.

    Args:
        ranks: figures of each rank.
        rows_per_second: speed of all ranks, from the first batch on.
        loop_seconds: time from the first batch until all predictions were collected.
        num_chunks: chunks of the job: more ranks than that cannot help.
        alone: rows per second of one rank alone, over all of its time and over its forward calls; None: not measured.
        group_size: if so many ranks hold one replica together, `ranks` are the first of each group, and count for all.
    """
    rows, world_size = sum(rank.rows for rank in ranks), len(ranks)
    working = sum(rank.seconds["forward"] + rank.seconds["data_wait"] for rank in ranks)
    if not rows or not working:
        return None
    forward = _mean(rank.seconds["forward"] for rank in ranks)
    rank_rows_per_second, ideal_seconds = rows / working, forward
    if alone is not None:
        rank_rows_per_second, ideal_seconds = alone[0], rows / world_size / alone[1]
    ends = [_end_of_work(rank) for rank in ranks]
    imbalance = [
        min(rank.seconds["sync_wait"], max(ends) - end) if world_size > 1 else 0.0
        for rank, end in zip(ranks, ends, strict=True)
    ]
    losses = {
        "start-up": _mean(sum(rank.seconds[phase] for phase in _STARTUP) for rank in ranks),
        "baseline": _mean(rank.seconds["baseline"] for rank in ranks),
        "slower together": forward - ideal_seconds,
        "reading": _mean(rank.seconds["data_wait"] for rank in ranks),
        "imbalance": _mean(imbalance),
        "collect": _mean(
            rank.seconds["backpressure"] + rank.seconds["sync_wait"] - waited
            for rank, waited in zip(ranks, imbalance, strict=True)
        ),
        "finish": _mean(rank.seconds["finish"] for rank in ranks),
    }
    speedup = rows_per_second / rank_rows_per_second
    other_seconds = ideal_seconds + sum(losses.values()) - losses["baseline"] - loop_seconds
    ranks_a_host = max(1, world_size // len({rank.host for rank in ranks}))
    counts = sorted({max(1, world_size // 2), world_size, world_size + ranks_a_host, 2 * world_size, 4 * world_size})
    predicted = []
    for count in counts:
        seconds = loop_seconds * world_size / min(count, max(num_chunks, 1))
        predicted.append(Predicted(count * group_size, other_seconds + seconds, rows / seconds / rank_rows_per_second))
    return Efficiency(
        is_measured=alone is not None,
        rank_rows_per_second=rank_rows_per_second,
        speedup=speedup,
        efficiency=speedup / world_size,
        ideal_seconds=ideal_seconds,
        losses=losses,
        predicted=predicted,
    )


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)


def _end_of_work(rank: RankStats) -> float:
    """Return when a rank had computed its last chunk, in seconds since the start of rank 0's process."""
    before = ("baseline", "forward", "data_wait", "backpressure")
    return rank.began + sum(rank.seconds[phase] for phase in (*_STARTUP, *before))
