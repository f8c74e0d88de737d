"""The ranks of a job whose groups hold one replica of the model together, as the report tells of them. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner.reports.pages.balance import seconds_of
from runner.reports.pages.record import Record
from runner.reports.pages.values import number


@dataclass(frozen=True)
class Member:
    """One rank.

    Attributes:
        stage: of a pipeline, that it holds; 0 where there is none.
        forward, exchange: seconds; the second are part of the first.
    """

    rank: int
    host: str
    group: int
    stage: int
    rows: float
    part_bytes: float
    forward: float
    exchange: float

    @property
    def computing(self) -> float:
        """The rest of the forward."""
        return self.forward - self.exchange


def members_of(record: Record) -> list[Member]:
    """All ranks, in order; none where each holds the whole model, or the report does not tell of them all."""
    ranks = [rank for rank in record.ranks if not math.isnan(seconds_of(rank, "forward"))]
    each = record.group_size
    if each == 1 or len(ranks) != len(record.ranks):
        return []
    stages = _whole(record.config.get("pipeline-stages"))
    a_stage = each // stages if each % stages == 0 else each
    return [_member(rank, index, each, a_stage) for index, rank in enumerate(ranks)]


def _member(rank: dict[str, Any], index: int, each: int, a_stage: int) -> Member:
    forward, exchange = seconds_of(rank, "forward"), number(rank.get("group_seconds"))
    return Member(
        rank=index,
        host=str(rank.get("host")),
        group=index // each,
        stage=index % each // a_stage,
        rows=number(rank.get("rows")),
        part_bytes=number(rank.get("part_bytes")),
        forward=forward,
        exchange=min(max(exchange, 0.0), forward) if exchange == exchange else 0.0,
    )


def share_of(members: Sequence[Member]) -> float:
    """How much of the forward of these ranks was exchange and waiting."""
    forward = sum(member.forward for member in members)
    return sum(member.exchange for member in members) / forward if forward > 0 else math.nan


def _whole(value: Any) -> int:
    found = number(value)
    return int(found) if found >= 1 else 1
