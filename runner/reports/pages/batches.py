"""Rows per second over time, and how long batches took."""

import math
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

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
_WIDE = 1.5  # decades of an axis with few ticks in each
_FOR_WORDS = 0.45  # of the width, on a phone
_FEWEST_BUCKETS = 24
_HEADROOM = 1.15  # above the greatest value, for words


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
    edges, rows = _in_buckets(timeline, record)
    mean = number(record.report["rows_per_second"])
    speeds = (rows / np.diff(edges)).tolist()
    line = {"shape": "hv", "width": 1.5, "color": FORWARD}
    drawn = chart(
        "speed",
        280,
        [lines([*speeds, speeds[-1]], "%{x:.2f} s: %{y:,.0f} rows/s", x=edges, fill="tozeroy", line=line)],
        xaxis=time_axis(edges),
        yaxis=axis("rows per second", range=[0, _HEADROOM * max(*speeds, mean)]),
        shapes=[] if math.isnan(mean) else [mark_at("y", mean, f"mean of the loop: {rate(mean)}", _COLOR)],
    )
    table = []
    step = max(1, len(speeds) // 40)
    for first in range(0, len(speeds), step):
        until = edges[min(first + step, len(speeds))]
        speed = float(rows[first : first + step].sum()) / (until - edges[first])
        table.append({"from": edges[first], "until": until, "speed": speed})
    return {"chart": drawn, "until": edges[-1], "most": max(speeds), "mean": mean, "rows": table}


def _in_buckets(timeline: Timeline, record: Record) -> tuple[list[float], np.ndarray]:
    """Return edges and rows of intervals that each last as long as a batch or longer: few but whole batches."""
    batch = max((number(rank["batch_seconds"]) for rank in record.ranks), default=0.0)
    bins = len(timeline.rows)
    together = min(max(1, math.ceil(batch / timeline.width)), -(-bins // _FEWEST_BUCKETS)) if batch > 0 else 1
    starts = range(0, bins, together)
    edges = timeline.edges
    return [*(edges[start] for start in starts), edges[-1]], np.add.reduceat(timeline.rows, starts)


def how_long_batches_took(record: Record) -> Values:
    """Show how many batches took how long; nothing where none was counted."""
    latencies = record.report["latencies"]
    classes = _classes(latencies if isinstance(latencies, list) else [])
    if not classes:
        return {}
    slowest = max(record.ranks, key=lambda rank: max(-1.0, number(rank["slowest_batch_seconds"])), default=Fields())
    longest = number(slowest["slowest_batch_seconds"])
    median, high = (_bound(classes, share, longest) for share in (0.5, 0.95))
    marked: dict[float, list[str]] = {}
    for words, seconds in (("half below", median), ("95 % below", high), ("slowest", longest)):
        marked[seconds] = [*marked.get(seconds, []), words]
    return {
        "classes": classes,
        "median": median,
        "high": high,
        "longest": longest,
        "who": slowest.get("name", "a rank that is not known"),
        "chart": _draw(classes, {seconds: ", ".join(words) for seconds, words in marked.items() if seconds > 0}),
    }


def _classes(latencies: list[Any]) -> list[_Class]:
    """Return the classes of latency that have batches."""
    edges = [LATENCY_FROM_SECONDS * 10 ** (n / LATENCY_CLASSES_A_DECADE) for n in range(len(latencies) + 1)]
    return [
        _Class(f"{duration(low)} to {duration(high)}", low, high, many)
        for (low, high), many in zip(pairwise(edges), latencies, strict=True)
        if number(many) > 0
    ]


def _draw(classes: list[_Class], marked: dict[float, str]) -> dict[str, Any]:
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
    digits = (1, 2, 5) if limits[1] - limits[0] > _WIDE else (1, 1.5, 2, 3, 4, 5, 6, 8)
    ticks = [digit * 10.0**decade for decade in range(-6, 4) for digit in digits]
    names = {"tickvals": ticks, "ticktext": [*map(duration, ticks)]}
    return chart(
        "latencies",
        300,
        [data],
        xaxis=axis("how long a batch took (logarithmic)", type="log", range=limits) | names,
        yaxis=axis("batches", rangemode="tozero"),
        margin={"l": 8, "r": 16, "t": 72, "b": 8},
        shapes=[
            mark_at("x", at, f"{words} {duration(at)}", _COLOR, length=1 + 0.11 * index, xanchor=_side(at, limits))
            for index, (at, words) in enumerate(marked.items())
        ],
    )


def _side(seconds: float, limits: list[float]) -> str:
    """Return the end of the words that is at the line: they are to the left of it, where no longer line is."""
    share = (math.log10(seconds) - limits[0]) / (limits[1] - limits[0])
    return "right" if share > _FOR_WORDS else "left"


def _bound(classes: list[_Class], share: float, longest: float) -> float:
    """Return the seconds below which at least this share of the batches lies: the end of a class, or the longest."""
    wanted = share * sum(each.batches for each in classes)
    for each in classes:
        wanted -= each.batches
        if wanted <= 0:
            return min(each.high, longest)  # of a longest that is not known, min returns the first
    return math.nan
