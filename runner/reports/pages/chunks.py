"""What each rank computed when, by the chunks in the ledger: what is left of a job that did not come to its end."""

import math
import re
from collections import defaultdict
from typing import Any

import numpy as np

from runner.reports.pages.markup import Chart, Row, Table, axis, cell, paragraph, plain
from runner.reports.pages.phases import shown
from runner.reports.pages.record import Chunk, Job, Record
from runner.reports.pages.values import count, duration, number, plural

_MOST_BARS, _BINS, _MOST_ROWS = 3000, 240, 128
_FAULT = "#d62728"


def draw_job(record: Record, job: Job) -> str:
    """The chunks of a job over time, and where it failed."""
    chunks = [chunk for chunk in job.chunks if math.isfinite(chunk.began + chunk.seconds) and chunk.seconds >= 0]
    if not chunks:
        return paragraph(
            "The ledger does not tell when the chunks were computed: it is of an earlier version."
            if job.chunks
            else "No chunk of this job is recorded: it ended before the first was collected, or has none yet."
        )
    each, lanes = job.group_size, job.ranks // job.group_size
    noun = "rank" if each == 1 else "group"
    says = (
        f"When each of {plural(lanes, noun)} computed its chunks: {count(len(chunks))} bars, the first from "
        f"{duration(min(chunk.began for chunk in chunks))}, the last until {duration(_end(chunks))}."
    )
    is_fine = len(chunks) <= _MOST_BARS
    data = _bars(chunks, each) if is_fine else [_map(chunks, each, lanes)]
    layout: dict[str, Any] = {
        "xaxis": axis("seconds since the start of rank 0", rangemode="tozero"),
        "yaxis": axis(noun, range=[lanes - 0.5, -0.5], dtick=max(1, lanes // 16), showgrid=False, zeroline=False),
        "bargap": 0.3,
        "hovermode": "closest",
        "barmode": "overlay",
    }
    failed_at = (
        number(record.failure.get("epoch")) - job.epoch if record.failure and job is record.jobs[-1] else math.nan
    )
    if math.isfinite(failed_at):
        says += f" It failed after {duration(failed_at)}, on {record.failure.get('who') or 'all ranks'}."
        _mark_failure(layout, failed_at, str(record.failure.get("who") or ""), each, lanes, data)
    by_rank: dict[int, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        by_rank[chunk.rank].append(chunk)
    rows = [_rank_row(rank, of_rank) for rank, of_rank in sorted(by_rank.items())]
    header = ("rank", "chunks", "rows", "first began", "last ended", "busy")
    table = Table("chunks of each rank" if each == 1 else "chunks of each group, by its first rank", header, rows)
    height = 130 + max(60, min(28 * lanes, 640))
    legend = [("computing a chunk", shown("forward").colour)]
    return Chart("chunks", says, data, layout, height, [table], legend).to_html()


def rows_over_time(job: Job) -> tuple[list[float], list[float]]:
    """Of a job without a timeline: edges of bins in seconds, and the rows per second in each."""
    chunks = [chunk for chunk in job.chunks if math.isfinite(chunk.began + chunk.seconds) and chunk.seconds >= 0]
    if not chunks or not _end(chunks) > 0:
        return [], []
    edges = np.linspace(0, _end(chunks), 1 + max(12, min(120, len(chunks) // max(1, job.ranks))))
    rows = np.zeros(len(edges) - 1)
    for chunk in chunks:  # a chunk's rows are evenly spread over its time
        low, high = np.clip(edges[:-1], chunk.began, None), np.clip(edges[1:], None, chunk.began + chunk.seconds)
        inside = np.clip(high - low, 0, None)
        rows += chunk.rows * (inside / total if (total := inside.sum()) else (inside == inside.max()) / len(inside))
    return edges.tolist(), (rows / (edges[1] - edges[0])).tolist()


def _bars(chunks: list[Chunk], each: int) -> list[dict[str, Any]]:
    shades: dict[int, int] = {}
    opacity = []
    for chunk in chunks:  # of neighbours every other one is paler, so that one sees where one ends
        shades[chunk.rank] = 1 - shades.get(chunk.rank, 0)
        opacity.append(0.65 + 0.35 * shades[chunk.rank])
    return [
        {
            "type": "bar",
            "orientation": "h",
            "y": [chunk.rank // each for chunk in chunks],
            "base": [chunk.began for chunk in chunks],
            "x": [chunk.seconds for chunk in chunks],
            "marker": {"color": shown("forward").colour, "opacity": opacity, "line": {"width": 0}},
            "customdata": [chunk.rows for chunk in chunks],
            "hovertemplate": ("rank" if each == 1 else "group")
            + " %{y}, from %{base:.2f} s on<br>%{customdata} rows<extra></extra>",
        }
    ]


def _map(chunks: list[Chunk], each: int, lanes: int) -> dict[str, Any]:
    group = -(-lanes // _MOST_ROWS)
    rows = -(-lanes // group)
    busy, width = np.zeros((rows, _BINS)), _end(chunks) / _BINS
    for chunk in chunks:
        first, last = chunk.began / width, (chunk.began + chunk.seconds) / width
        for index in range(int(first), min(int(last) + 1, _BINS)):
            busy[chunk.rank // each // group, index] += (min(last, index + 1) - max(first, index)) / group
    colour = shown("forward").colour
    return {
        "type": "heatmap",
        "z": np.rint(100 * np.clip(busy, 0, 1)).astype(int).tolist(),
        "x0": width / 2,
        "dx": width,
        "y": [(first + min(first + group, lanes) - 1) / 2 for first in range(0, lanes, group)],
        "zmin": 0,
        "zmax": 100,
        "colorscale": [[0, "rgba(0,0,0,0)"], [1, colour]],
        "showscale": False,
        "hovertemplate": ("rank" if each == 1 else "group")
        + " %{y:.0f}, %{x:.2f} s<br>computing: %{z} %<extra></extra>",
    }


def _mark_failure(
    layout: dict[str, Any], when: float, who: str, each: int, lanes: int, data: list[dict[str, Any]]
) -> None:
    """A line over all ranks, and a cross on the one that failed, or on its group."""
    line = {"color": _FAULT, "width": 2, "dash": "dash"}
    layout["shapes"] = [{"type": "line", "x0": when, "x1": when, "y0": 0, "y1": 1, "yref": "paper", "line": line}]
    layout["annotations"] = [
        {"x": when, "y": 1, "yref": "paper", "yanchor": "bottom", "xanchor": "right", "showarrow": False,
         "text": f"failed after {duration(when)}"}
    ]  # fmt: skip
    found = re.match(r"rank (\d+)", who)
    if found and int(found[1]) < each * lanes:
        marker = {"symbol": "x", "size": 13, "color": _FAULT}
        data.append({"type": "scatter", "mode": "markers", "x": [when], "y": [int(found[1]) // each], "marker": marker,
                     "cliponaxis": False, "hovertemplate": f"{plain(who)} failed<extra></extra>"})  # fmt: skip


def _rank_row(rank: int, chunks: list[Chunk]) -> Row:
    times = min(chunk.began for chunk in chunks), _end(chunks), sum(chunk.seconds for chunk in chunks)
    counts = rank, len(chunks), sum(chunk.rows for chunk in chunks)
    return [*(cell(found, count) for found in counts), *(cell(seconds, duration) for seconds in times)]


def _end(chunks: list[Chunk]) -> float:
    return max(chunk.began + chunk.seconds for chunk in chunks)
