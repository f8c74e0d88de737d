"""How a running job does, from nothing but what its commits tell: as rank 0 keeps it in `status.json`."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RankStatus:
    """Status of one rank.

    Attributes:
        rows: rows committed in this job.
        share: rows that it is to compute in this job; None with dynamic scheduling.
        seconds_since_last: time since its last chunk was committed, or since the start where there was none.
        rows_per_second: recent speed, over the time it was at work; 0 before its first chunk.
    """

    rank: int
    rows: int
    share: int | None
    seconds_since_last: float
    rows_per_second: float


@dataclass(frozen=True)
class Status:
    """Status of a job at one moment; seconds and rows as the names tell.

    Attributes:
        time, started: this moment, and the start of the job's first process; in seconds since 1970.
        done_rows: rows committed, by this job and earlier ones, quarantined ones included.
        resumed_rows: rows of these that earlier jobs have left, without quarantined ones.
        rows_per_second: recent speed of all ranks.
        seconds_left: time until all rows are done, at this speed; None if it is unknown, because no chunk comes in.
        where: the ranks that work on it, in words.
        stragglers: ranks that the others will have to wait for, in order.
        ended: whether the job has ended by itself; stays False where it was killed.
        output: name of the output, without its folders; empty where there is none.
    """

    time: float
    started: float
    num_rows: int
    done_rows: int
    resumed_rows: int
    quarantined_rows: int
    rows_per_second: float
    seconds_left: float | None
    world_size: int
    launcher: str
    where: str
    ranks: list[RankStatus] = field(default_factory=list)
    stragglers: list[int] = field(default_factory=list)
    ended: bool = False
    output: str = ""

    @property
    def share_done(self) -> float:
        """Share of the rows that are done, 0 to 1."""
        return self.done_rows / self.num_rows if self.num_rows else 1.0

    @property
    def median_rows_per_second(self) -> float:
        """Upper median of the speeds of the ranks that have computed anything; 0 where none has."""
        return median([rank.rows_per_second for rank in self.ranks if rank.rows_per_second] or [0.0])

    def to_json(self) -> str:
        """Return the status as one line of JSON."""
        return json.dumps(dataclasses.asdict(self)) + "\n"


def parse_status(text: str) -> Status | None:
    """Read the text of `Status.to_json`; None where it is damaged, or of another kind."""
    try:
        values: dict[str, Any] = json.loads(text)
        ranks = [RankStatus(**_known(RankStatus, rank)) for rank in values.pop("ranks")]
        status = Status(**_known(Status, values), ranks=ranks)
        dataclasses.replace(status, time=status.time + 0.0, num_rows=status.num_rows + 0).to_json()
        return status if 0 <= status.share_done <= 1 else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _known(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in values.items() if name in names}


def median(values: list[float]) -> float:
    """The upper one of an even number."""
    return sorted(values)[len(values) // 2]
