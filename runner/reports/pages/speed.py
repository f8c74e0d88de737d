"""Rows per second over time, and how long batches took."""

import math
from collections.abc import Sequence
from typing import Any

from runner.reports.pages.blocks import Blocks, Chart, Row, Table, axis, bars, finding, marks, scatter
from runner.reports.pages.chunks import rows_over_time
from runner.reports.pages.phases import FORWARD
from runner.reports.pages.record import Record
from runner.reports.pages.strips import Shares
from runner.reports.pages.values import Fields, count, duration, number, rate
from runner.telemetry.timeline import LATENCY_CLASSES_A_DECADE, LATENCY_FROM_SECONDS

_LOWEST = round(math.log10(LATENCY_FROM_SECONDS))
_MARK = {"color": "#d55e00", "width": 1.5, "dash": "dot"}
_ROOM_FOR_MARKS = {"l": 8, "r": 16, "t": 62, "b": 8}


def speed_over_time(record: Record, shares: Shares | None) -> Blocks:
    """Show the speed; nothing where nothing is known of it."""
    edges, speeds = rows_over_time(record.jobs[-1]) if shares is None and record.jobs else ([], [])
    if shares is not None:
        edges = shares.edges.tolist()
        speeds = (shares.rows / shares.width).tolist()
    if not any(speeds):
        return []
    mean = record.report.number("rows_per_second")
    line = {"shape": "hv", "width": 1.5, "color": FORWARD}
    hover = "%{x:.2f} s: %{y:,.0f} rows/s<extra></extra>"
    data = [scatter("lines", edges, [*speeds, speeds[-1]], line=line, fill="tozeroy", hovertemplate=hover)]
    layout: dict[str, Any] = {
        "xaxis": axis("seconds since the start of rank 0", range=[min(0.0, edges[0]), edges[-1]], zeroline=False),
        "yaxis": axis("rows per second", rangemode="tozero"),
    }
    says = f"Rows per second over {duration(edges[-1])}, at most {rate(max(speeds))}."
    if not math.isnan(mean):
        note = {"x": 0.01, "y": mean, "xanchor": "left", "text": f"mean of the loop: {rate(mean)}"}
        layout |= marks("y", _MARK, note)
        says += f" The mean from the first batch on is {rate(mean)}."
    rows: list[Row] = []
    for first in range(0, len(speeds), step := max(1, len(speeds) // 40)):
        part = speeds[first : first + step]
        rows.append((duration(edges[first]), duration(edges[first + len(part)]), rate(sum(part) / len(part))))
    table = Table("rows per second over time", ("from", "until", "rows per second"), rows)
    return [Chart("speed", says, data, layout, 280, [table])]


def batches(record: Record) -> Blocks:
    """Show how many batches took how long; nothing where none was counted."""
    latencies = record.report.get("latencies")
    counts = [number(item) for item in latencies] if isinstance(latencies, list) else []
    if not sum(counts) > 0:
        return []
    filled = [index for index, many in enumerate(counts) if many]
    middle, high = (_quantile(counts, share) for share in (0.5, 0.95))
    slowest = max(record.ranks, key=lambda rank: max(-1.0, rank.number("slowest_batch_seconds")), default=Fields())
    worst = slowest.number("slowest_batch_seconds")
    who = f"rank {slowest.get('rank')} on {slowest.get('host')}" if slowest else "a rank that is not known"
    words = (
        f"Of {count(sum(counts))} batches half took less than about {duration(middle)}, and 95 of 100 less than about "
        f"{duration(high)}. The slowest took {duration(worst)}, on {who}."
    )
    shown = range(max(0, filled[0] - 2), min(len(counts), filled[-1] + 3))
    classes = [f"{_class(index)}: {count(counts[index])}" for index in shown]
    look = {"width": 1 / LATENCY_CLASSES_A_DECADE, "text": classes, "textposition": "none"}
    x = [_exponent(index + 0.5) for index in shown]
    data = bars(FORWARD, "%{text}", x=x, y=[counts[index] for index in shown], **look)
    times = [(middle, f"median about {duration(middle)}"), (high, f"95 % below about {duration(high)}")]
    layout = _latency_layout(shown, times + [(worst, f"slowest {duration(worst)}")] * (worst > 0))
    rows = [[_class(index), count(counts[index])] for index in filled]
    table = Table("batches by how long they took", ("a batch took", "batches"), rows)
    return [finding(words), Chart("latencies", words, [data], layout, 300, [table])]


def _latency_layout(shown: range, times: list[tuple[float, str]]) -> dict[str, Any]:
    """Lay out a logarithmic axis of time, and a line across the chart at each of these times, with words."""
    limits = [_exponent(shown.start), _exponent(shown.stop)]
    decades = range(math.floor(limits[0]), math.ceil(limits[1]) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    named = {"tickvals": [math.log10(tick) for tick in ticks], "ticktext": [duration(tick) for tick in ticks]}
    title = "how long a batch took (logarithmic)"
    notes = [
        {"x": math.log10(seconds), "y": 1, "xanchor": "auto", "yshift": 15 * index, "text": text}
        for index, (seconds, text) in enumerate(times)
    ]
    return marks("x", _MARK, *notes) | {
        "xaxis": axis(title, range=limits, showgrid=False, zeroline=False, **named),
        "yaxis": axis("batches", rangemode="tozero"),
        "margin": _ROOM_FOR_MARKS,
    }


def _quantile(counts: Sequence[float], share: float) -> float:
    """Return the seconds below which this share of the batches lies, to two digits.

    It goes by their classes, a quarter of the time wide, in which batches are taken to be evenly spread.
    """
    wanted, passed = share * sum(counts), 0.0
    for index, many in enumerate(counts):
        if many and passed + many >= wanted:
            return float(f"{_edge(index + (wanted - passed) / many):.2g}")
        passed += many
    return math.nan


def _exponent(index: float) -> float:
    return _LOWEST + index / LATENCY_CLASSES_A_DECADE


def _edge(index: float) -> float:
    return float(10 ** _exponent(index))


def _class(index: int) -> str:
    return f"{duration(_edge(index))} to {duration(_edge(index + 1))}"
