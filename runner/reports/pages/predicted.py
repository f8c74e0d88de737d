"""What a job like this one would take on other numbers of ranks, by the model of `runner.telemetry.efficiency`."""

import math
from typing import Any

from runner.reports.pages.markup import Row, Table, cell, paragraph
from runner.reports.pages.record import Record
from runner.reports.pages.values import count, duration, number, plural, times

_NAMES = {1.0: "as it was", 2.0: "twice as many", 4.0: "four times as many"}
_HEADER = ("ranks", "number", "wall time", "times as fast as now", "speed-up over one {noun}", "ranks x wall time")


def other_ranks(record: Record, efficiency: dict[str, Any]) -> str:
    """A table, and that it is a model; empty where nothing is predicted."""
    said = efficiency.get("predicted")
    predicted = [item for item in said if isinstance(item, dict)] if isinstance(said, list) else []
    world_size = number(record.report.get("world_size"))
    now = next((number(item.get("wall_seconds")) for item in predicted if item.get("ranks") == world_size), math.nan)
    if not predicted or not world_size > 0:
        return ""
    noun = "rank" if record.group_size == 1 else "group"
    a_host = world_size / max(1, len({str(rank.get("host")) for rank in record.ranks}))
    rows: list[Row] = []
    for item in predicted:
        ranks, wall, speedup = (number(item.get(name)) for name in ("ranks", "wall_seconds", "speedup"))
        faster = now / wall if wall else math.nan
        figures = cell(wall, duration), cell(faster, times), cell(speedup, times), cell(ranks * wall, duration)
        is_host = record.group_size == 1 or ranks - world_size >= a_host
        otherwise = "half as many" if ranks < world_size else "one host more" if is_host else "one group more"
        rows.append([_NAMES.get(ranks / world_size, otherwise), cell(ranks, count), *figures])
    return (
        "<h3>What other numbers of ranks would buy</h3>"
        + Table(
            "a job like this one on other numbers of ranks, by a model",
            [name.format(noun=noun) for name in _HEADER],
            rows,
        ).to_html()
        + paragraph(
            f"A model, not a measurement: the loop shrinks with the ranks, down to one chunk a {noun}; everything else "
            f"takes as long as on {plural(world_size, 'rank')}. It does not know what more ranks cost one another.",
            "note",
        )
    )
