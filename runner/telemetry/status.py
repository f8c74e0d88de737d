"""How a running job does, from nothing but what its commits tell: as rank 0 keeps it in `status.json`. Pure."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RankStatus:
    """One rank.

    Attributes:
        rows: committed, in this job.
        share: rows that it is to compute in this job; None where whoever is free takes the next.
        seconds_since_last: since its last chunk was committed, or since the start where there was none.
        rows_per_second: lately, by the time it was at work; 0 before its first chunk.
    """

    rank: int
    rows: int
    share: int | None
    seconds_since_last: float
    rows_per_second: float


@dataclass(frozen=True)
class Status:
    """A job at one moment; seconds and rows as the names say.

    Attributes:
        time, started: of this, and of the job's first process; since 1970.
        done_rows: committed, by this job and earlier ones, quarantined ones included.
        resumed_rows: of these, what earlier jobs have left, but quarantined ones.
        rows_per_second: of all ranks, lately.
        seconds_left: until all rows are done, at this speed; None where nobody can tell, as nothing comes in.
        where: who works on it, in words.
        stragglers: ranks that the others will have to wait for, in order.
        ended: the job has come to an end of its own; False stays behind where it was killed.
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

    @property
    def share_done(self) -> float:
        """0 to 1."""
        return self.done_rows / self.num_rows if self.num_rows else 1.0

    @property
    def median_rows_per_second(self) -> float:
        """Of the ranks that have computed anything, the upper one; 0 where none has."""
        return median([rank.rows_per_second for rank in self.ranks if rank.rows_per_second] or [0.0])

    def to_json(self) -> str:
        """One line."""
        return json.dumps(dataclasses.asdict(self)) + "\n"


def parse_status(text: str) -> Status | None:
    """What `to_json` has written; None where it is damaged, or of another kind."""
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
