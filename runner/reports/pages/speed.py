"""Rows per second over time, and how long batches took."""

import math
from collections.abc import Sequence
from typing import Any

from runner.reports.pages.chunks import rows_over_time
from runner.reports.pages.markup import Chart, Row, Table, axis, cell, paragraph
from runner.reports.pages.phases import shown
from runner.reports.pages.record import Record
from runner.reports.pages.strips import Shares
from runner.reports.pages.values import count, duration, number, rate
from runner.telemetry.timeline import LATENCY_CLASSES_A_DECADE, LATENCY_FROM_SECONDS

_LOWEST = round(math.log10(LATENCY_FROM_SECONDS))
_MARK = "#d55e00"
_ROOM_FOR_MARKS = {"l": 8, "r": 16, "t": 62, "b": 8}


def speed_over_time(record: Record, shares: Shares | None) -> str:
    """The section; empty where nothing is known of it."""
    if shares is not None:
        edges = shares.edges.tolist()
        speeds = [rows / (edges[1] - edges[0]) for rows in shares.rows.tolist()]
    elif record.jobs:
        edges, speeds = rows_over_time(record.jobs[-1])
    else:
        edges, speeds = [], []
    if not any(speeds):
        return ""
    mean, most = number(record.report.get("rows_per_second")), max(speeds)
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": edges,
            "y": [*speeds, speeds[-1]],
            "line": {"shape": "hv", "width": 1.5, "color": shown("forward").colour},
            "fill": "tozeroy",
            "hovertemplate": "%{x:.2f} s: %{y:,.0f} rows/s<extra></extra>",
        }
    ]
    layout: dict[str, Any] = {
        "xaxis": axis("seconds since the start of rank 0", range=[min(0.0, edges[0]), edges[-1]], zeroline=False),
        "yaxis": axis("rows per second", rangemode="tozero"),
    }
    says = f"Rows per second over {duration(edges[-1])}, at most {rate(most)}."
    if not math.isnan(mean):
        layout |= _marked("y", mean, f"mean of the loop: {rate(mean)}")
        says += f" The mean from the first batch on is {rate(mean)}."
    step = max(1, len(speeds) // 40)
    rows: list[Row] = []
    for first in range(0, len(speeds), step):
        of_step = speeds[first : first + step]
        span = edges[first], edges[first + len(of_step)]
        rows.append([*(cell(edge, duration) for edge in span), cell(sum(of_step) / len(of_step), rate)])
    table = Table("rows per second over time", ("from", "until", "rows per second"), rows)
    return Chart("speed", says, data, layout, 280, [table]).to_html()


def batches(record: Record) -> str:
    """The section; empty where no batch was counted."""
    said = record.report.get("latencies")
    counts = [number(item) for item in said] if isinstance(said, list) else []
    total = sum(counts)
    if not total > 0:
        return ""
    found = [index for index, many in enumerate(counts) if many]
    first, last = max(0, found[0] - 2), min(len(counts), found[-1] + 3)
    middle, high = (_about(quantile(counts, share)) for share in (0.5, 0.95))
    slowest = max(record.ranks, key=lambda rank: _nan_is_least(rank.get("slowest_batch_seconds")), default={})
    worst = number(slowest.get("slowest_batch_seconds"))
    at = [_exponent(index + 0.5) for index in range(first, last)]
    decades = range(math.floor(_exponent(first)), math.ceil(_exponent(last)) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    data = [
        {
            "type": "bar",
            "x": at,
            "y": counts[first:last],
            "width": 1 / LATENCY_CLASSES_A_DECADE,
            "marker": {"color": shown("forward").colour, "line": {"width": 0}},
            "text": [f"{_class(index)}: {count(counts[index])}" for index in range(first, last)],
            "textposition": "none",
            "hovertemplate": "%{text}<extra></extra>",
        }
    ]
    x = axis(
        "how long a batch took (logarithmic)",
        tickvals=[math.log10(tick) for tick in ticks],
        ticktext=[duration(tick) for tick in ticks],
        range=[_exponent(first), _exponent(last)],
        showgrid=False,
        zeroline=False,
    )
    layout: dict[str, Any] = {"xaxis": x, "yaxis": axis("batches", rangemode="tozero"), "margin": _ROOM_FOR_MARKS}
    marks = [
        _marked("x", math.log10(middle), f"median about {duration(middle)}", 0),
        _marked("x", math.log10(high), f"95 % below about {duration(high)}", 1),
    ]
    if worst > 0:
        marks.append(_marked("x", math.log10(worst), f"slowest {duration(worst)}", 2))
    for mark in marks:
        for kind in ("shapes", "annotations"):
            layout[kind] = [*layout.get(kind, []), *mark[kind]]
    who = f"rank {slowest.get('rank')} on {slowest.get('host')}" if slowest else "a rank that is not known"
    words = (
        f"Of {count(total)} batches half took less than about {duration(middle)}, and 95 of 100 less than about "
        f"{duration(high)}. The slowest took {duration(worst)}, on {who}."
    )
    classes: list[Row] = [[_class(index), cell(counts[index], count)] for index in found]
    table = Table("batches by how long they took", ("a batch took", "batches"), classes)
    return paragraph(words, "finding") + Chart("latencies", words, data, layout, 300, [table]).to_html()


def quantile(counts: Sequence[float], share: float) -> float:
    """Seconds below which this share of the batches lies, by their classes; in between, as if evenly spread."""
    wanted, passed = share * sum(counts), 0.0
    for index, many in enumerate(counts):
        if many and passed + many >= wanted:
            return _edge(index + (wanted - passed) / many)
        passed += many
    return math.nan


def _about(seconds: float) -> float:
    """To two digits: the classes are a quarter of the time wide."""
    return float(f"{seconds:.2g}")


def _exponent(index: float) -> float:
    return _LOWEST + index / LATENCY_CLASSES_A_DECADE


def _edge(index: float) -> float:
    return float(10 ** _exponent(index))


def _class(index: int) -> str:
    return f"{duration(_edge(index))} to {duration(_edge(index + 1))}"


def _nan_is_least(value: Any) -> float:
    return -1.0 if math.isnan(found := number(value)) else found


def _marked(side: str, at: float, words: str, line: int = 0) -> dict[str, Any]:
    """A line across a chart with words at its end."""
    other = "y" if side == "x" else "x"
    ends = {f"{side}0": at, f"{side}1": at, f"{other}0": 0, f"{other}1": 1, f"{other}ref": "paper"}
    shape = {"type": "line", "line": {"color": _MARK, "width": 1.5, "dash": "dot"}} | ends
    note: dict[str, Any] = {"text": words, "showarrow": False}
    if side == "x":
        note |= {"x": at, "y": 1, "yref": "paper", "yanchor": "bottom", "yshift": 15 * line, "xanchor": "auto"}
    else:
        note |= {"x": 0.01, "xref": "paper", "y": at, "yanchor": "bottom", "xanchor": "left"}
    return {"shapes": [shape], "annotations": [note]}
