"""All jobs of an output on one axis of time: when each began and ended, how, and how many rows were done by then."""

import math
import time
from typing import Any

from runner.reports.pages.figures import Trace, axis, bars, chart, lines, marks, plain
from runner.reports.pages.page import Values
from runner.reports.pages.record import Record
from runner.reports.pages.summary import STATES
from runner.reports.pages.values import Fields, number, plural

_COLORS = {"good": "#009e73", "warn": "#e69f00", "bad": "#d55e00", "busy": "#56b4e9"}
_MOST_POINTS = 500


def history(record: Record) -> Values:
    """Show all jobs; nothing where there was one."""
    jobs = [_past(record, index) for index in range(len(record.jobs))]
    if len(jobs) < 2:
        return {}
    drawn = [job for job in jobs if job["began"] > 0]
    faults = sum(job["how"] in ("failed", "killed") for job in jobs)
    return {"jobs": jobs, "faults": faults, "chart": _draw(drawn, len(jobs)) if drawn else None}


def _past(record: Record, index: int) -> Values:
    """Return when a job began and ended, how, and the words it left; `until` is drawn as its end."""
    job = record.jobs[index]
    if index + 1 < len(record.jobs):
        before = Fields(record.jobs[index + 1].start["before"])
        how = str(before["how"])
        words = before["message"]
        ended = number(before["epoch"])
    else:
        how, words = record.ended[0], record.failure["message"] or record.report["stopped_by"]
        is_over = how in ("whole", "stopped")
        ended = job.epoch + number(record.report["wall_seconds"]) if is_over else number(record.failure["epoch"])
    ends = [end for end in (ended, *(job.epoch + commit.ended for commit in job.commits)) if end == end]
    how = how if how in STATES else "killed"
    return {
        "job": job,
        "number": index + 1,
        "started": job.start["started"],
        "ranks": job.num_ranks,
        "rows": job.num_rows,
        "how": how,
        "words": str(words or ""),
        "ended": f"{STATES[how][2]}: {words}" if words else STATES[how][2],
        "began": job.epoch,
        "until": max(ends, default=job.epoch),
        "lasted": max(ends, default=math.nan) - job.epoch,
    }


def _draw(jobs: list[Values], lanes: int) -> dict[str, Any]:
    """Draw bars from the start of each job to its end, and below them the rows that were done."""
    began, ended = min(job["began"] for job in jobs), max(job["until"] for job in jobs)
    span = max(ended - began, 1.0)
    wide, narrow = ([_local(began - 0.02 * span), _local(ended + room * span)] for room in (0.3, 1.4))
    names = {"tickvals": [*range(1, lanes + 1)], "ticktext": [f"job {index + 1}" for index in range(lanes)]}
    y = {"domain": [0.45, 1], "range": [lanes + 0.5, 0.5], "showgrid": False, "zeroline": False}
    return chart(
        "history",
        260 + min(36 * lanes, 500),
        [_bars(jobs), *_rows_done(jobs)],
        xaxis=axis("local time", type="date", anchor="y2", range=wide),
        yaxis=axis() | y | names,
        yaxis2=axis("rows done", domain=[0, 0.36], rangemode="tozero"),
        bargap=0.35,
        meta={"narrow": {"range": narrow, "tickangle": 0, "nticks": 4}},
    )


def _bars(jobs: list[Values]) -> Trace:
    return bars(
        [_COLORS[STATES[job["how"]][0]] for job in jobs],
        "%{text}<br>%{customdata}",
        orientation="h",
        y=[job["number"] for job in jobs],
        base=[_local(job["began"]) for job in jobs],
        x=[1000 * (job["until"] - job["began"]) + 1 for job in jobs],
        text=[f"{plural(job['ranks'], 'rank')}, {STATES[job['how']][2]}" for job in jobs],
        customdata=[plain(job["words"][:200]) for job in jobs],
        textposition="auto",
        insidetextfont={"color": "#000000"},
        cliponaxis=False,
    )


def _rows_done(jobs: list[Values]) -> list[Trace]:
    """Draw the rows over time, and a mark where a job ended by a fault."""
    rows = 0
    x = []
    y = []
    faults: dict[str, list[float]] = {"x": [], "y": []}
    for job in jobs:
        for commit in job["job"].commits:
            x.append(_local(job["began"] + commit.ended))
            y.append(rows := rows + commit.rows)
        if job["how"] in ("failed", "killed"):
            faults["x"].append(_local(job["until"]))
            faults["y"].append(rows)
    step = max(1, len(x) // _MOST_POINTS)
    x = [_local(jobs[0]["began"]), *x[::step], _local(jobs[-1]["until"])]
    line = {"color": _COLORS["busy"], "width": 2}
    return [
        lines([0, *y[::step], rows], "%{x}: %{y:,} rows", x=x, yaxis="y2", line=line),
        marks("x", 12, _COLORS["bad"], hover="a fault, %{x}", yaxis="y2", **faults),
    ]


def _local(epoch: float) -> float:
    """Return a time for Plotly, which knows no time zones: in milliseconds, in the local time of the page's maker."""
    return 1000 * (epoch + time.localtime(epoch).tm_gmtoff)
