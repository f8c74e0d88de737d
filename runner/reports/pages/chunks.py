"""The work of each rank over time, by the chunks in the ledger: all that is left of a job that did not end."""

import math
import re
from collections import defaultdict
from typing import Any

import numpy as np

from runner.reports.pages.blocks import Blocks, Chart, Row, Table, axis, bars, heatmap, marks, plain, prose, scatter
from runner.reports.pages.phases import FORWARD
from runner.reports.pages.record import Chunk, Job, Record
from runner.reports.pages.values import count, duration, plural

_MOST_BARS, _BINS, _MOST_ROWS = 3000, 240, 128
_FAULT = "#d62728"
_NONE = "No chunk of this job is recorded: it ended before the first was collected, or has none yet."
_UNTIMED = "The ledger does not tell when the chunks were computed: it is of an earlier version."


def draw_job(record: Record, job: Job) -> Blocks:
    """Draw the chunks of a job over time, and where it failed."""
    chunks, each, lanes = job.timed_chunks, job.group_size, job.ranks // job.group_size
    if not chunks:
        return [prose(_UNTIMED if job.chunks else _NONE)]
    noun, ended = "rank" if each == 1 else "group", max(chunk.ended for chunk in chunks)
    says = (
        f"When each of {plural(lanes, noun)} computed its chunks: {count(len(chunks))} bars, the first from "
        f"{duration(min(chunk.began for chunk in chunks))}, the last until {duration(ended)}."
    )
    data = [_bars(chunks, each, noun) if len(chunks) <= _MOST_BARS else _map(chunks, each, lanes, ended / _BINS)]
    layout: dict[str, Any] = {
        "xaxis": axis("seconds since the start of rank 0", rangemode="tozero"),
        "yaxis": axis(noun, range=[lanes - 0.5, -0.5], dtick=max(1, lanes // 16), showgrid=False, zeroline=False),
        "bargap": 0.3,
        "hovermode": "closest",
        "barmode": "overlay",
    }
    failed_at, who = record.failure.number("epoch") - job.epoch, record.failure.get("who")
    if job is record.jobs[-1] and math.isfinite(failed_at):
        says += f" It failed after {duration(failed_at)}, on {who or 'all ranks'}."
        note = {"x": failed_at, "y": 1, "xanchor": "right", "text": f"failed after {duration(failed_at)}"}
        layout |= marks("x", {"color": _FAULT, "width": 2, "dash": "dash"}, note)
        rank = re.match(r"rank (\d+)", str(who))
        if rank and int(rank[1]) < each * lanes:
            data.append(cross([failed_at], [int(rank[1]) // each], f"{plain(who)} failed", _FAULT))
    by_rank: dict[int, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        by_rank[chunk.rank].append(chunk)
    rows = [_row(rank, of_rank) for rank, of_rank in sorted(by_rank.items())]
    header = ("rank", "chunks", "rows", "first began", "last ended", "busy")
    table = Table("chunks of each rank" if each == 1 else "chunks of each group, by its first rank", header, rows)
    height = 130 + max(60, min(28 * lanes, 640))
    return [Chart("chunks", says, data, layout, height, [table], [("computing a chunk", FORWARD)])]


def rows_over_time(job: Job) -> tuple[list[float], list[float]]:
    """Return the edges of bins in seconds, and the rows per second in each, of a job without a timeline."""
    chunks = job.timed_chunks
    ended = max((chunk.ended for chunk in chunks), default=0.0)
    if not ended > 0:
        return [], []
    edges = np.linspace(0, ended, 1 + max(12, min(120, len(chunks) // max(1, job.ranks))))
    rows = np.zeros(len(edges) - 1)
    for chunk in chunks:  # a chunk's rows are evenly spread over its time
        inside = np.clip(np.clip(edges[1:], None, chunk.ended) - np.clip(edges[:-1], chunk.began, None), 0, None)
        rows += chunk.rows * (inside / total if (total := inside.sum()) else (inside == inside.max()) / len(inside))
    return edges.tolist(), (rows / (edges[1] - edges[0])).tolist()


def cross(x: list[Any], y: list[Any], hover: str, color: str, **more: Any) -> dict[str, Any]:
    """Mark faults in a chart."""
    marker = {"symbol": "x", "size": 12, "color": color}
    hovertemplate = f"{hover}<extra></extra>"
    return scatter("markers", x, y, marker=marker, cliponaxis=False, hovertemplate=hovertemplate, **more)


def _bars(chunks: list[Chunk], each: int, noun: str) -> dict[str, Any]:
    shades: dict[int, int] = {}
    opacity = []
    for chunk in chunks:  # of neighbors every other one is paler, so that one sees where one ends
        shades[chunk.rank] = 1 - shades.get(chunk.rank, 0)
        opacity.append(0.65 + 0.35 * shades[chunk.rank])
    lanes, began, seconds, rows = zip(*((c.rank // each, c.began, c.seconds, c.rows) for c in chunks), strict=True)
    hover = f"{noun} %{{y}}, from %{{base:.2f}} s on<br>%{{customdata}} rows"
    trace = bars(FORWARD, hover, orientation="h", y=lanes, base=began, x=seconds, customdata=rows)
    trace["marker"]["opacity"] = opacity
    return trace


def _map(chunks: list[Chunk], each: int, lanes: int, width: float) -> dict[str, Any]:
    group = -(-lanes // _MOST_ROWS)
    busy = np.zeros((-(-lanes // group), _BINS))
    for chunk in chunks:
        first, last = chunk.began / width, chunk.ended / width
        for index in range(int(first), min(int(last) + 1, _BINS)):
            busy[chunk.rank // each // group, index] += (min(last, index + 1) - max(first, index)) / group
    z = np.rint(100 * np.clip(busy, 0, 1)).astype(int).tolist()
    y = [(first + min(first + group, lanes) - 1) / 2 for first in range(0, lanes, group)]
    hover = f"{'rank' if each == 1 else 'group'} %{{y:.0f}}, %{{x:.2f}} s<br>computing: %{{z}} %"
    return heatmap(z, 0.0, width, y, hover, FORWARD)


def _row(rank: int, chunks: list[Chunk]) -> Row:
    times = min(c.began for c in chunks), max(c.ended for c in chunks), sum(c.seconds for c in chunks)
    return [*map(count, (rank, len(chunks), sum(chunk.rows for chunk in chunks))), *map(duration, times)]
