"""All jobs of an output on one axis of time: when each began and ended, how, and how many rows were done by then."""

import math
import time
from dataclasses import dataclass
from typing import Any

from runner.reports.pages.headline import STATES
from runner.reports.pages.markup import Chart, Row, Table, axis, cell, paragraph, plain
from runner.reports.pages.record import Job, Record
from runner.reports.pages.values import count, duration, number, plural

_COLOURS = {"good": "#009e73", "warn": "#e69f00", "bad": "#d55e00", "busy": "#56b4e9"}
_MOST_POINTS = 500


@dataclass(frozen=True)
class _Past:
    """One job: seconds since 1970, NaN where the end is not known; how it ended, and the words it left."""

    job: Job
    began: float
    ended: float
    how: str
    words: str

    @property
    def last(self) -> float:
        """What is drawn as its end."""
        return self.ended if math.isfinite(self.ended) else self.began

    @property
    def colour(self) -> str:
        return _COLOURS[STATES[self.how][0]]


def history(record: Record) -> str:
    """The section; empty where there was one job."""
    if record.num_jobs < 2 or len(record.jobs) < 2:
        return ""
    past = [_past(record, index) for index in range(len(record.jobs))]
    faults = [job for job in past if job.how in ("failed", "killed")]
    words = f"{plural(len(past), 'job')} worked on this output. Ended by a fault, or without a word: {len(faults)}."
    table = Table(
        "the jobs of this output",
        ("job", "began", "lasted", "ranks", "rows computed", "ended"),
        [*map(_row, range(1, len(past) + 1), past)],
    )
    drawn = [job for job in past if math.isfinite(job.began)]
    if not drawn:
        return paragraph(words + " The ledger does not tell when.") + table.to_html()
    data = [_bars(past, drawn), *_rows_done(drawn)]
    names = [f"job {number}" for number in range(1, len(past) + 1)]
    layout = {
        "xaxis": axis("local time", type="date", anchor="y2", **_dates(drawn, 0.3)),
        "yaxis": axis("", domain=[0.45, 1], range=[len(past) - 0.5, -0.5], tickvals=list(range(len(past))),
                      ticktext=names, showgrid=False, zeroline=False),
        "yaxis2": axis("rows done", domain=[0, 0.36], rangemode="tozero"),
        "hovermode": "closest",
        "bargap": 0.35,
        "meta": {"narrow": {"xaxis": _dates(drawn, 1.4) | {"tickangle": 0, "nticks": 4}}},
    }  # fmt: skip
    says = words + " Bars from the start of each to its end, with how it ended; below, the rows that were done."
    legend = [(STATES[how][2], colour) for how, colour in {job.how: job.colour for job in past}.items()]
    height = 260 + min(36 * len(past), 500)
    return paragraph(words, "finding") + Chart("history", says, data, layout, height, [table], legend).to_html()


def _past(record: Record, index: int) -> _Past:
    job = record.jobs[index]
    ends = [job.epoch + chunk.began + chunk.seconds for chunk in job.chunks]
    last_chunk = max([end for end in ends if math.isfinite(end)], default=math.nan)
    if index + 1 < len(record.jobs):
        said = record.jobs[index + 1].said.get("before")
        before: dict[str, Any] = said if isinstance(said, dict) else {}
        how, words, failed = (
            str(before.get("how", "killed")),
            str(before.get("message") or ""),
            number(before.get("epoch")),
        )
    else:
        how, words = record.ended[0], str(record.failure.get("message") or record.report.get("stopped_by") or "")
        failed = number(record.failure.get("epoch"))
        if how in ("whole", "stopped"):
            failed = job.epoch + number(record.report.get("wall_seconds"))
    ended = max(last_chunk, failed) if math.isfinite(failed) else last_chunk if job.chunks else math.nan
    return _Past(job, job.epoch, ended, how if how in STATES else "killed", words)


def _bars(past: list[_Past], drawn: list[_Past]) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "y": [past.index(job) for job in drawn],
        "base": [_local(job.began) for job in drawn],
        "x": [1000 * (job.last - job.began) + 1 for job in drawn],
        "marker": {"color": [job.colour for job in drawn]},
        "text": [f"{plural(job.job.ranks, 'rank')}, {STATES[job.how][2]}" for job in drawn],
        "textposition": "auto",
        "insidetextfont": {"color": "#000000"},
        "cliponaxis": False,
        "customdata": [plain(job.words[:200]) for job in drawn],
        "hovertemplate": "%{text}<br>%{customdata}<extra></extra>",
    }


def _dates(drawn: list[_Past], room: float) -> dict[str, Any]:
    """The range of an axis of time with room for labels at its end: so many times as wide."""
    began, ended = min(job.began for job in drawn), max(job.last for job in drawn)
    span = max(ended - began, 1.0)
    return {"range": [_local(began - 0.02 * span), _local(ended + room * span)]}


def _rows_done(drawn: list[_Past]) -> list[dict[str, Any]]:
    """Rows over time, and a mark where a job ended by a fault."""
    points, done = [], 0
    faults = []
    for job in drawn:
        points.append((job.began, done))
        for chunk in job.job.chunks:
            done += chunk.rows
            when = job.began + chunk.began + chunk.seconds
            points.append((when if math.isfinite(when) else job.last, done))
        points.append((job.last, done))
        if job.how in ("failed", "killed"):
            faults.append((job.last, done))
    points.sort()
    points = points[:: max(1, len(points) // _MOST_POINTS)] + points[-1:]
    line = {"color": _COLOURS["busy"], "width": 2}
    x, at = [_local(when) for when, _ in points], [_local(when) for when, _ in faults]
    marker = {"symbol": "x", "size": 11, "color": _COLOURS["bad"]}
    return [
        {"type": "scatter", "mode": "lines", "yaxis": "y2", "line": line, "x": x,
         "y": [rows for _, rows in points], "hovertemplate": "%{x}: %{y:,} rows<extra></extra>"},
        {"type": "scatter", "mode": "markers", "yaxis": "y2", "marker": marker, "x": at,
         "y": [rows for _, rows in faults], "hovertemplate": "a fault, %{x}<extra></extra>"},
    ]  # fmt: skip


def _row(index: int, past: _Past) -> Row:
    when = _local(past.began).replace("T", " ")[:19] or str(past.job.said.get("started", ""))
    rows = sum(chunk.rows for chunk in past.job.chunks)
    figures = cell(past.ended - past.began, duration), cell(past.job.ranks, count), cell(rows, count)
    return [cell(index, count), when, *figures, STATES[past.how][2] + (f": {past.words}" if past.words else "")]


def _local(epoch: float) -> str:
    """As Plotly takes a date; it knows no time zones, so it is the local time of whoever makes the page."""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(epoch)) + f".{int(epoch % 1 * 1000):03d}"
    except (ValueError, OverflowError, OSError):
        return ""
