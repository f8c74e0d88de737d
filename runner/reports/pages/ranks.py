"""Phases of each rank over time as a strip, or of many ranks as a map; of a job that did not end, its chunks."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from runner.chunks.commit import Commit
from runner.reports.pages.figures import Trace, axis, bars, chart, lines, mark_at, marks, plain
from runner.reports.pages.page import Values
from runner.reports.pages.phases import FORWARD, shown
from runner.reports.pages.record import Job, Record
from runner.reports.pages.timeline import Timeline
from runner.reports.pages.values import duration, number

_MOST_STRIPS = 8  # ranks; of more a strip is too thin to see what shares its time
_MOST_BARS, _MOST_ROWS = 3000, 128
_FAULT = "#d62728"
_BARE: dict[str, Any] = {"showgrid": False, "zeroline": False}


def what_ranks_did(record: Record, timeline: Timeline | None) -> Values:
    """Show the phases of each rank; of a job without a timeline its chunks."""
    if timeline is None:
        return _what_a_job_did(record, record.jobs[-1]) if record.jobs else {}
    named = {rank["rank"]: rank["name"] for rank in record.ranks}
    names = [named.get(rank, f"rank {rank}") for rank in range(len(next(iter(timeline.main.values()))))]
    are_few = len(names) <= _MOST_STRIPS
    drawn = _strips(timeline, names) if are_few else _map(timeline, len(names))
    return {"record": record, "ranks": len(names), "are_few": are_few, "until": timeline.edges[-1], "chart": drawn}


def time_axis(edges: Sequence[float], **more: Any) -> dict[str, Any]:
    """Make an axis of the time of a job."""
    return axis("seconds since the start of rank 0", range=[min(0.0, edges[0]), edges[-1]], zeroline=False, **more)


def _strips(timeline: Timeline, names: Sequence[str]) -> dict[str, Any]:
    """Draw a strip for each rank, and below it a thin one for each phase of its other threads."""
    data: list[Trace] = []
    axes: dict[str, Any] = {}
    for rank, name in enumerate(names):
        strips = [(name.partition(" on ")[0], timeline.main, 0.0, 0.62)]
        for index, (phase, shares) in enumerate(timeline.others.items()):
            strips.append((shown(phase).name, {phase: shares}, 0.64 + 0.12 * index, 0.1))
        data.append(_hover(timeline, rank, name, f"y{len(axes) + 1}"))
        for label, phases, above, height in strips:
            number = len(axes) + 1
            domain = [max(0.0, 1 - (rank + above + height) / len(names)), 1 - (rank + above) / len(names)]
            data += _strip(timeline, {phase: shares[rank] for phase, shares in phases.items()}, f"y{number}")
            axes[f"yaxis{number}"] = _strip_axis(label, domain, tickfont={"size": 13 if height > 0.5 else 9})
    x = time_axis(timeline.edges, anchor=f"y{len(axes)}")
    return chart("ranks", 70 + 96 * len(names), data, xaxis=x, hovermode="x", **axes)


def _strip(timeline: Timeline, shares: dict[str, np.ndarray], yaxis: str) -> list[Trace]:
    """Draw phases stacked on one another."""
    place = {"x0": timeline.began, "dx": timeline.width, "yaxis": yaxis, "stackgroup": yaxis}
    return [
        lines([*share.tolist(), int(share[-1])], name=shown(phase).name, fillcolor=shown(phase).color,
              line={"width": 0, "shape": "hv"}) | place
        for phase, share in shares.items()
    ]  # fmt: skip


def _strip_axis(label: str, domain: list[float], **more: Any) -> dict[str, Any]:
    return axis(domain=domain, range=[0, 100], tickvals=[50], ticktext=[plain(label)], ticks="", **_BARE, **more)


def _hover(timeline: Timeline, rank: int, name: str, yaxis: str) -> Trace:
    """Draw a line that is not seen, for what the pointer is on."""
    phases = {shown(phase).name: shares[rank] for phase, shares in (timeline.main | timeline.others).items()}
    text = [
        "<br>".join(f"{phase}: {share} %" for phase, share in zip(phases, shares, strict=True) if share)
        for shares in np.stack([*phases.values()], axis=1).tolist()
    ]
    place = {"x0": timeline.began + timeline.width / 2, "dx": timeline.width, "yaxis": yaxis, "line": {"width": 0}}
    return lines([50] * len(text), f"{plain(name)}, %{{x:.2f}} s<br>%{{text}}", text=text, **place)


def _map(timeline: Timeline, num_ranks: int) -> dict[str, Any]:
    """Draw the mean of all ranks as a strip, and of each rank or a few the phase that took most of each bin."""
    means = {phase: np.rint(shares.mean(axis=0)).astype(int) for phase, shares in timeline.main.items()}
    data = _strip(timeline, means, "y")
    starts = range(0, num_ranks, -(-num_ranks // _MOST_ROWS))
    folded = np.stack([np.add.reduceat(shares, starts, axis=0) for shares in timeline.main.values()])
    sizes = np.diff([*starts, num_ranks])
    folded = np.rint(folded / sizes[:, None]).astype(int)
    for index, phase in enumerate(timeline.main):
        is_most = (folded.argmax(axis=0) == index) & (folded[index] > 0)
        if is_most.any():
            data.append(_most(timeline, phase, np.where(is_most, folded[index], -1), starts + (sizes - 1) / 2))
    height = max(220, min(6 * len(starts), 640)) + 130
    y2 = axis("rank", domain=[0, 0.97 - 60 / height], range=[num_ranks - 0.5, -0.5], **_BARE)
    x, y = time_axis(timeline.edges, anchor="y2"), _strip_axis("all ranks", [1 - 60 / height, 1])
    return chart("ranks", height, data, xaxis=x, yaxis=y, yaxis2=y2)


def _most(timeline: Timeline, phase: str, shares: np.ndarray, y: np.ndarray) -> Trace:
    """Draw where a phase took most of the time, the fainter the smaller its share; -1: not there."""
    columns = np.flatnonzero((shares >= 0).any(axis=0))
    first, last = columns[0], columns[-1] + 1
    name, color, _ = shown(phase)
    pale = f"rgba({','.join(str(int(color[at : at + 2], 16)) for at in (1, 3, 5))},0.35)"
    return {
        "type": "heatmap",
        "z": [[share if share >= 0 else None for share in row] for row in shares[:, first:last].tolist()],
        "x0": timeline.began + (first + 0.5) * timeline.width,
        "dx": timeline.width,
        "y": y.tolist(),
        "yaxis": "y2",
        "zmin": 0,
        "zmax": 100,
        "colorscale": [[0, pale], [1, color]],
        "showscale": False,
        "hoverongaps": False,
        "hovertemplate": f"rank %{{y:.0f}}, %{{x:.2f}} s<br>{plain(name)}: %{{z}} %<extra></extra>",
    }


def _what_a_job_did(record: Record, job: Job) -> Values:
    """Show when the chunks of a job were computed, and where it failed."""
    by_rank: dict[int, list[Commit]] = defaultdict(list)
    for commit in job.timed:
        by_rank[commit.rank].append(commit)
    each = job.group_size
    failed_at = number(record.failure["epoch"]) - job.epoch
    who = record.failure["who"]
    lanes, noun = job.num_ranks // each, "rank" if each == 1 else "group"
    a_bar = -(-len(job.timed) // _MOST_BARS)  # chunks
    parts = [
        _sum(commits[first : first + a_bar]) | {"is_odd": first // a_bar % 2}
        for commits in by_rank.values()
        for first in range(0, len(commits), a_bar)
    ]
    data, shapes = [_bars(parts, each, noun)], []
    if failed_at == failed_at:
        shapes.append(mark_at("x", failed_at, f"failed after {duration(failed_at)}", _FAULT, xanchor="right"))
        rank = re.match(r"rank (\d+)", str(who))
        if rank and int(rank[1]) < job.num_ranks:
            data.append(marks("x", 12, _FAULT, [int(rank[1]) // each], f"{plain(who)} failed", x=[failed_at]))
    x = axis("seconds since the start of rank 0", rangemode="tozero")
    y = axis(noun, range=[lanes - 0.5, -0.5], dtick=max(1, lanes // 16), **_BARE)
    layout = {"xaxis": x, "yaxis": y, "bargap": 0.3, "barmode": "overlay", "shapes": shapes}
    drawn = chart("chunks", 130 + max(60, min(28 * lanes, 640)), data, **layout)
    rows = [_sum(commits) for _, commits in sorted(by_rank.items())]
    about = {"noun": noun, "lanes": lanes, "failed_at": failed_at, "who": who or "all ranks"}
    return about | {"job": job, "rows": rows, "chart": drawn}


def _sum(commits: Sequence[Commit]) -> Values:
    """Return the figures of chunks of one rank."""
    return {
        "rank": commits[0].rank,
        "chunks": len(commits),
        "rows": sum(commit.rows for commit in commits),
        "began": min(commit.began for commit in commits),
        "ended": max(commit.ended for commit in commits),
        "busy": sum(commit.seconds for commit in commits),
    }


def _bars(parts: Sequence[Values], each: int, noun: str) -> Trace:
    """Draw chunks; of neighbors every other one is paler, so that one sees where one ends."""
    return bars(
        FORWARD,
        f"{noun} %{{y}}, from %{{base:.2f}} s on<br>%{{customdata}} rows",
        orientation="h",
        y=[part["rank"] // each for part in parts],
        base=[part["began"] for part in parts],
        x=[round(part["ended"] - part["began"], 6) for part in parts],
        customdata=[part["rows"] for part in parts],
        marker={"color": FORWARD, "opacity": [0.65 if part["is_odd"] else 1.0 for part in parts]},
    )
