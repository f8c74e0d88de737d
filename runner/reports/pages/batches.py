"""Rows per second over time, and how long batches took."""

import math
from itertools import pairwise
from typing import Any, NamedTuple

from runner.reports.pages.figures import axis, bars, chart, lines, mark_at
from runner.reports.pages.page import Values
from runner.reports.pages.phases import FORWARD
from runner.reports.pages.ranks import time_axis
from runner.reports.pages.record import Record
from runner.reports.pages.timeline import Timeline, rows_of
from runner.reports.pages.values import Fields, count, duration, number, rate
from runner.telemetry.timeline import LATENCY_CLASSES_A_DECADE, LATENCY_FROM_SECONDS

_COLOR = "#d55e00"
_ROOM = 0.2  # decades beside the fastest and the slowest batch


class _Class(NamedTuple):
    """Batches that took about as long as one another: at least `low`, less than `high` seconds."""

    name: str
    low: float
    high: float
    batches: float


def rows_over_time(record: Record, timeline: Timeline | None) -> Values:
    """Show the rows per second; nothing where nothing is known of them."""
    timeline = timeline or (rows_of(record.jobs[-1]) if record.jobs else None)
    if timeline is None or not timeline.rows.any():
        return {}
    edges, mean = timeline.edges, number(record.report["rows_per_second"])
    speeds = (timeline.rows / timeline.width).tolist()
    line = {"shape": "hv", "width": 1.5, "color": FORWARD}
    drawn = chart(
        "speed",
        280,
        [lines([*speeds, speeds[-1]], "%{x:.2f} s: %{y:,.0f} rows/s", x=edges, fill="tozeroy", line=line)],
        xaxis=time_axis(timeline.edges),
        yaxis=axis("rows per second", rangemode="tozero"),
        shapes=[] if math.isnan(mean) else [mark_at("y", mean, f"mean of the loop: {rate(mean)}", _COLOR)],
    )
    rows, step = [], max(1, len(speeds) // 40)
    for first in range(0, len(speeds), step):
        part = speeds[first : first + step]
        rows.append({"from": edges[first], "until": edges[first + len(part)], "speed": sum(part) / len(part)})
    return {"chart": drawn, "until": edges[-1], "most": max(speeds), "mean": mean, "rows": rows}


def how_long_batches_took(record: Record) -> Values:
    """Show how many batches took how long; nothing where none was counted."""
    latencies = record.report["latencies"]
    classes = _classes(latencies if isinstance(latencies, list) else [])
    if not classes:
        return {}
    median, high = _quantile(classes, 0.5), _quantile(classes, 0.95)
    slowest = max(record.ranks, key=lambda rank: max(-1.0, number(rank["slowest_batch_seconds"])), default=Fields())
    longest = number(slowest["slowest_batch_seconds"])
    return {
        "classes": classes,
        "median": median,
        "high": high,
        "longest": longest,
        "who": slowest.get("name", "a rank that is not known"),
        "chart": _draw(classes, {"median about": median, "95 % below about": high, "slowest": longest}),
    }


def _classes(latencies: list[Any]) -> list[_Class]:
    """Return the classes of latency that have batches."""
    edges = [LATENCY_FROM_SECONDS * 10 ** (n / LATENCY_CLASSES_A_DECADE) for n in range(len(latencies) + 1)]
    return [
        _Class(f"{duration(low)} to {duration(high)}", low, high, many)
        for (low, high), many in zip(pairwise(edges), latencies, strict=True)
        if number(many) > 0
    ]


def _draw(classes: list[_Class], marked: dict[str, float]) -> dict[str, Any]:
    """Draw the classes on a logarithmic axis of time, and a line across at each of these times."""
    data = bars(
        FORWARD,
        "%{text}",
        x=[each.low for each in classes],
        width=[each.high - each.low for each in classes],
        offset=0,
        y=[each.batches for each in classes],
        text=[f"{each.name}: {count(each.batches)}" for each in classes],
        textposition="none",
    )
    limits = [math.log10(classes[0].low) - _ROOM, math.log10(classes[-1].high) + _ROOM]
    ticks = [digit * 10.0**decade for decade in range(-6, 4) for digit in (1, 2, 5)]
    names = {"tickvals": ticks, "ticktext": [*map(duration, ticks)]}
    return chart(
        "latencies",
        300,
        [data],
        xaxis=axis("how long a batch took (logarithmic)", type="log", range=limits) | names,
        yaxis=axis("batches", rangemode="tozero"),
        margin={"l": 8, "r": 16, "t": 62, "b": 8},
        shapes=[
            mark_at("x", seconds, f"{words} {duration(seconds)}", _COLOR, length=1 + 0.07 * index)
            for index, (words, seconds) in enumerate(marked.items())
            if seconds > 0
        ],
    )


def _quantile(classes: list[_Class], share: float) -> float:
    """Return the seconds below which this share of the batches lies, to two digits; evenly spread in their classes."""
    wanted = share * sum(each.batches for each in classes)
    for each in classes:
        if each.batches >= wanted:
            return float(f"{each.low * (each.high / each.low) ** (wanted / each.batches):.2g}")
        wanted -= each.batches
    return math.nan
