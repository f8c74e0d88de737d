"""Where the time went: from what the forward calls alone would take, loss by loss, to the wall time."""

import math
from itertools import accumulate
from typing import Any

from runner.reports.pages.figures import axis, bars, chart, plain
from runner.reports.pages.page import Values
from runner.reports.pages.phases import FORWARD, LOSSES, START_UP, shown
from runner.reports.pages.record import Record
from runner.reports.pages.values import Fields, duration, number, objects, percent

_SMALL, _SECOND = 0.1, 0.15  # of the wall time: a loss, and the one after the largest, that is worth a word
_LOST, _WON = "#e69f00", "#009e73"
_MULTIPLES = {1.0: "as it was", 2.0: "twice as many", 4.0: "four times as many"}


def losses_of(report: Fields) -> dict[str, float]:
    """Return those that are known, the largest first, each as a share of the wall time."""
    wall = number(report["wall_seconds"]) or math.nan
    losses = report.fields("efficiency").fields("losses")
    shares = {name: share for name in losses if not math.isnan(share := number(losses[name]) / wall)}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def where_the_time_went(record: Record) -> Values:
    """Show the losses; nothing where the job has no efficiency."""
    efficiency, shares = record.report.fields("efficiency"), losses_of(record.report)
    if not efficiency:
        return {}
    losses, wall = efficiency.fields("losses"), number(record.report["wall_seconds"]) or math.nan
    seconds = {"ideal": efficiency["ideal_seconds"]} | {name: losses[name] for name in losses if losses[name]}
    steps = [_step(name, number(each), wall) for name, each in (seconds | {"wall time": wall}).items()]
    large = [name for name, least in zip(shares, (_SMALL, _SECOND), strict=False) if shares[name] >= least]
    return {
        "record": record,
        "efficiency": efficiency,
        "steps": steps,
        "large": [_step(name, losses[name], wall) | _advice(record, name) for name in large],
        "small": _SMALL,
        "chart": _draw(steps),
        "predicted": _predicted(record),
    }


def _step(name: str, seconds: float, wall: float) -> Values:
    return {"name": name, "seconds": seconds, "share": seconds / wall, "meaning": LOSSES.get(name, ("", ""))[0]}


def _advice(record: Record, name: str) -> Values:
    """Say what to do about a loss; of the start-up, by the phase that most of it is."""
    phases = {phase: sum(number(rank[phase]) for rank in record.leaders) for phase in START_UP}
    most = max(phases, key=lambda phase: max(-1.0, phases[phase]))  # -1 for NaN
    if name == "start-up" and phases[most] > 0:
        return {"phase": shown(most), "advice": START_UP[most]}
    return {"phase": None, "advice": LOSSES.get(name, ("", ""))[1]}


def _draw(steps: list[Values]) -> dict[str, Any]:
    """Draw each part as a bar that begins where the one before ends, and at last the sum."""
    *parts, total = steps
    ends = [0.0, *accumulate(part["seconds"] for part in parts)]
    color_of_loss = {True: _LOST, False: _WON}
    colors = [FORWARD, *(color_of_loss[part["seconds"] >= 0] for part in parts[1:]), FORWARD]
    data = bars(
        colors,
        "%{y}: %{text}",
        orientation="h",
        y=[plain(step["name"]) for step in steps],
        base=[*ends[: len(parts)], 0.0],
        x=[step["seconds"] for step in steps],
        text=[f"{duration(step['seconds'])} ({percent(step['share'])})" for step in steps],
        textposition="outside",
        cliponaxis=False,
        constraintext="none",
    )
    x = axis("seconds", range=[0, 1.3 * total["seconds"]])
    y = axis(autorange="reversed", showgrid=False)
    narrow = {"range": [0, 2 * total["seconds"]]}
    return chart("losses", 70 + 34 * len(steps), [data], xaxis=x, yaxis=y, meta={"narrow": narrow})


def _predicted(record: Record) -> list[Values]:
    """Return the predicted times of such a job on other numbers of ranks; see `runner.telemetry.efficiency`."""
    predicted = objects(record.report.fields("efficiency")["predicted"])
    world_size = number(record.report["world_size"])
    now = next((number(item["wall_seconds"]) for item in predicted if item["ranks"] == world_size), math.nan)
    rows = []
    for item in predicted if world_size > 0 else []:
        ranks, wall = number(item["ranks"]), number(item["wall_seconds"]) or math.nan
        is_host = record.group_size == 1 or ranks - world_size >= world_size / max(1, record.num_hosts)
        name = "half as many" if ranks < world_size else "one host more" if is_host else "one group more"
        figures = {"ranks": ranks, "wall": wall, "faster": now / wall, "speedup": item["speedup"], "cost": ranks * wall}
        rows.append({"name": _MULTIPLES.get(ranks / world_size, name)} | figures)
    return rows
