"""All jobs of an output on one axis of time: when each began and ended, how, and how many rows were done by then."""

import math
import time
from typing import Any, NamedTuple

from runner.reports.pages.blocks import Blocks, Chart, Row, Table, axis, bars, finding, plain, prose, scatter
from runner.reports.pages.chunks import cross
from runner.reports.pages.record import Job, Record
from runner.reports.pages.summary import STATES
from runner.reports.pages.values import count, duration, plural

_COLORS = {"good": "#009e73", "warn": "#e69f00", "bad": "#d55e00", "busy": "#56b4e9"}
_MOST_POINTS = 500


class _Past(NamedTuple):
    """One job: seconds since 1970, NaN where the end is not known; how it ended, and the words it left."""

    job: Job
    began: float
    ended: float
    how: str
    words: str

    @property
    def last(self) -> float:
        """The moment drawn as its end."""
        return self.ended if math.isfinite(self.ended) else self.began

    @property
    def color(self) -> str:
        return _COLORS[STATES[self.how][0]]


def history(record: Record) -> Blocks:
    """Show all jobs; nothing where there was one."""
    if record.num_jobs < 2 or len(record.jobs) < 2:
        return []
    past = [_past(record, index) for index in range(len(record.jobs))]
    faults = sum(job.how in ("failed", "killed") for job in past)
    words = f"{plural(len(past), 'job')} worked on this output. Ended by a fault, or without a word: {faults}."
    header = ("job", "began", "lasted", "ranks", "rows computed", "ended")
    table = Table("the jobs of this output", header, [*map(_row, range(1, len(past) + 1), past)])
    drawn = [job for job in past if math.isfinite(job.began)]
    if not drawn:
        return [prose(words + " The ledger does not tell when."), table]
    names = [f"job {number}" for number in range(1, len(past) + 1)]
    lanes = {"range": [len(past) - 0.5, -0.5], "tickvals": list(range(len(past))), "ticktext": names}
    layout = {
        "xaxis": axis("local time", type="date", anchor="y2", range=_dates(drawn, 0.3)),
        "yaxis": axis("", domain=[0.45, 1], showgrid=False, zeroline=False, **lanes),
        "yaxis2": axis("rows done", domain=[0, 0.36], rangemode="tozero"),
        "hovermode": "closest",
        "bargap": 0.35,
        "meta": {"narrow": {"xaxis": {"range": _dates(drawn, 1.4), "tickangle": 0, "nticks": 4}}},
    }
    says = words + " Bars from the start of each to its end, with how it ended; below, the rows that were done."
    legend = [(STATES[how][2], color) for how, color in {job.how: job.color for job in past}.items()]
    data, height = [_bars(past, drawn), *_rows_done(drawn)], 260 + min(36 * len(past), 500)
    return [finding(words), Chart("history", says, data, layout, height, [table], legend)]


def _past(record: Record, index: int) -> _Past:
    job = record.jobs[index]
    if index + 1 < len(record.jobs):
        before = record.jobs[index + 1].start.fields("before")
        how, words, failed = str(before.get("how", "killed")), before.get("message"), before.number("epoch")
    else:
        how, words = record.ended[0], record.failure.get("message") or record.report.get("stopped_by")
        is_over = how in ("whole", "stopped")
        failed = job.epoch + record.report.number("wall_seconds") if is_over else record.failure.number("epoch")
    ends = [job.epoch + chunk.ended for chunk in job.chunks]
    ended = max([end for end in (failed, *ends) if math.isfinite(end)], default=math.nan)
    return _Past(job, job.epoch, ended, how if how in STATES else "killed", str(words or ""))


def _bars(past: list[_Past], drawn: list[_Past]) -> dict[str, Any]:
    labels = [f"{plural(job.job.ranks, 'rank')}, {STATES[job.how][2]}" for job in drawn]
    look = {"text": labels, "textposition": "auto", "insidetextfont": {"color": "#000000"}, "cliponaxis": False}
    spans = {"base": [_local(job.began) for job in drawn], "x": [1000 * (job.last - job.began) + 1 for job in drawn]}
    y, words = [past.index(job) for job in drawn], [plain(job.words[:200]) for job in drawn]
    hover = "%{text}<br>%{customdata}"
    return bars([job.color for job in drawn], hover, orientation="h", y=y, customdata=words, **spans, **look)


def _dates(drawn: list[_Past], room: float) -> list[str]:
    """Return the range of an axis of time with room for labels at its end: so many times as wide."""
    began, ended = min(job.began for job in drawn), max(job.last for job in drawn)
    span = max(ended - began, 1.0)
    return [_local(began - 0.02 * span), _local(ended + room * span)]


def _rows_done(drawn: list[_Past]) -> list[dict[str, Any]]:
    """Draw the rows over time, and a mark where a job ended by a fault."""
    points, faults, done = [], [], 0
    for job in drawn:
        points.append((job.began, done))
        for chunk in job.job.chunks:
            done += chunk.rows
            when = job.began + chunk.ended
            points.append((when if math.isfinite(when) else job.last, done))
        points.append((job.last, done))
        if job.how in ("failed", "killed"):
            faults.append((job.last, done))
    points.sort()
    points = points[:: max(1, len(points) // _MOST_POINTS)] + points[-1:]
    line, hover = {"color": _COLORS["busy"], "width": 2}, "%{x}: %{y:,} rows<extra></extra>"
    return [
        scatter("lines", *_places(points), yaxis="y2", line=line, hovertemplate=hover),
        cross(*_places(faults), "a fault, %{x}", _COLORS["bad"], yaxis="y2"),
    ]


def _places(points: list[tuple[float, int]]) -> tuple[list[Any], list[Any]]:
    return [_local(when) for when, _ in points], [rows for _, rows in points]


def _row(index: int, past: _Past) -> Row:
    when = _local(past.began).replace("T", " ")[:19] or str(past.job.start.get("started", ""))
    rows = sum(chunk.rows for chunk in past.job.chunks)
    how = STATES[past.how][2] + (f": {past.words}" if past.words else "")
    return count(index), when, duration(past.ended - past.began), count(past.job.ranks), count(rows), how


def _local(epoch: float) -> str:
    """Format a date for Plotly; it knows no time zones, so it is the local time of whoever makes the page."""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(epoch)) + f".{int(epoch % 1 * 1000):03d}"
    except (ValueError, OverflowError, OSError):
        return ""
