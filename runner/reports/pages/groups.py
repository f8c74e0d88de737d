"""Groups of ranks that hold one replica of the model together: what each rank holds, computes and waits for."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from runner.comm.groups import default_micro_batches
from runner.reports.pages.figures import MOST_NAMES, rank_bars
from runner.reports.pages.page import Values
from runner.reports.pages.phases import EXCHANGE, FORWARD
from runner.reports.pages.record import Record
from runner.reports.pages.values import number, spans

_UNEVEN = 0.1  # of the forward: so much more computing than another's is worth a word


def groups(record: Record) -> Values:
    """Show the groups; nothing where each rank holds the whole model, or the report does not tell of ranks."""
    ranks, each = _ranks(record), record.group_size
    if not ranks:
        return {}
    num_stages = 1 + ranks[-1]["stage"]
    members = [ranks[first : first + each] for first in range(0, len(ranks), each)]
    groups = [_together(f"group {index}", group) | {"stages": _stages(group)} for index, group in enumerate(members)]
    stages = [_together("", [rank for rank in ranks if rank["stage"] == stage]) for stage in range(num_stages)]
    parts = [rank["part_bytes"] for rank in ranks if rank["part_bytes"] > 0]
    return {
        "ranks": ranks,
        "groups": groups,
        "each": each,
        "num_stages": num_stages,
        "parts": (min(parts), max(parts)) if parts else (),
        "share": _together("", ranks)["share"],
        "is_measured": any(rank["exchange"] > 0 for rank in ranks),
        "micro_batches": _micro_batches(record, num_stages),
        "uneven": _apart([stages] if num_stages > 1 else members),
        "chart": _draw(ranks, groups, num_stages),
    }


def _ranks(record: Record) -> list[Values]:
    """Return all ranks, in order; none where each holds the whole model, or the report does not tell of them all."""
    each = record.group_size
    stages = int(max(1.0, number(record.config["pipeline-stages"])))  # in this order NaN is not the greater
    a_stage = each // stages if each % stages == 0 else each
    if each == 1 or not all(number(rank["forward"]) >= 0 for rank in record.ranks):
        return []
    return [
        _together(rank["name"], [
            {
                "rank": index,
                "group": index // each,
                "stage": index % each // a_stage,
                "host": str(rank["host"]),
                "rows": number(rank["rows"]),
                "part_bytes": number(rank["part_bytes"]),
                "forward": rank["forward"],
                "exchange": min(max(0.0, number(rank["group_seconds"])), rank["forward"]),
            }
        ])
        for index, rank in enumerate(record.ranks)
    ]  # fmt: skip


def _together(name: str, ranks: Sequence[Values]) -> Values:
    """Return the figures of some ranks as if they were one: seconds are their mean, bytes their sum."""
    forward, exchange = (fmean(rank[key] for rank in ranks) for key in ("forward", "exchange"))
    return ranks[0] | {
        "name": name,
        "ranks": spans([rank["rank"] for rank in ranks]),
        "hosts": ", ".join(dict.fromkeys(rank["host"] for rank in ranks)),
        "part_bytes": sum(rank["part_bytes"] for rank in ranks),
        "forward": forward,
        "exchange": exchange,
        "computing": forward - exchange,
        "share": exchange / forward if forward else math.nan,
    }


def _stages(ranks: Sequence[Values]) -> str:
    """Name the ranks of each stage: 0: ranks 0-1; 1: ranks 2-3."""
    by_stage = {rank["stage"]: [other["rank"] for other in ranks if other["stage"] == rank["stage"]] for rank in ranks}
    return "; ".join(f"{stage}: rank{'s' * (len(held) > 1)} {spans(held)}" for stage, held in by_stage.items())


def _micro_batches(record: Record, stages: int) -> int:
    """Return in how many parts a batch passes through a pipeline."""
    asked, rows = number(record.config["micro-batches"]), number(record.config["batch-size"])
    parts = int(asked) if asked >= 1 else default_micro_batches(stages)
    if record.config["model-args"].get("max_new_tokens"):  # a cache of a batch's tokens cannot be cut
        parts = 1
    return min(parts, int(rows)) if rows >= 1 else parts


def _apart(alike: Sequence[Sequence[Values]]) -> list[tuple[Values, Values]]:
    """Return what computes for longest and for shortest, of all in one list, where the first is much longer."""
    ends = [[pick(some, key=lambda each: each["computing"]) for pick in (max, min)] for some in alike]
    slow, idle = max(ends, key=lambda pair: pair[0]["computing"] - pair[1]["computing"])
    return [(slow, idle)] if slow["computing"] - idle["computing"] > _UNEVEN * idle["forward"] else []


def _draw(ranks: list[Values], groups: list[Values], num_stages: int) -> dict[str, Any]:
    """Draw the forward of each rank in two parts; of many ranks, the mean of each group."""
    are_few, of = len(ranks) <= MOST_NAMES, "group" if len(groups) > 1 else "stage"
    is_split = are_few and (len(groups) > 1 or num_stages > 1)
    return rank_bars(
        "exchange",
        ranks if are_few or len(groups) == 1 else groups,
        "seconds of the forward",
        (("computing", FORWARD, "computing"), (EXCHANGE.name, EXCHANGE.color, "exchange")),
        "rank" if are_few or len(groups) == 1 else "group",
        [f"{of} {rank[of]}" for rank in ranks] if is_split else (),
    )
