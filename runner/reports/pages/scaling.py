"""How speed grows with the number of ranks: charts of several runs. Pure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from runner.reports.pages.markup import Chart, axis, plain
from runner.reports.pages.values import count, percent, times

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_SIGNS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
_IDEAL, _SLOWER = "#8d949c", "#d62728"


@dataclass(frozen=True)
class Point:
    """One run.

    Attributes:
        work: which of the unlike jobs it is, from 0 on.
        base_ranks: of the run that its speed-up is against.
        is_slower: than an earlier run like it.
    """

    name: str
    work: int
    ranks: float
    speedup: float
    efficiency: float
    base_ranks: float
    is_slower: bool


def draw_speedup(points: Sequence[Point], jobs: Sequence[str]) -> Chart:
    """Speed-up against ranks, both logarithmic, beside a line for each job of what would be ideal."""
    data: list[dict[str, Any]] = []
    for work in sorted({point.work for point in points}):
        own = [point for point in points if point.work == work]
        ranks = sorted({point.ranks for point in own})
        line = {"color": _IDEAL, "dash": "dash", "width": 1.5}
        speedups = [number / own[0].base_ranks for number in ranks]
        ideal = {"type": "scatter", "mode": "lines", "name": "ideal", "x": ranks, "y": speedups, "line": line}
        data.append(ideal | {"hoverinfo": "skip"})
    data += _lines(points, lambda point: point.speedup, jobs, "speed-up %{y:.3g}")
    most = max([point.ranks / point.base_ranks for point in points] + [point.speedup for point in points])
    least = min(1.0, *(point.speedup for point in points), 1.0)
    ticks = [2.0**power for power in range(math.floor(math.log2(least)), max(1, math.ceil(math.log2(most))) + 1)]
    y = axis("speed-up", type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    said = ", ".join(f"{count(point.ranks)} ranks {times(point.speedup)}" for point in points)
    legend = [("ideal", _IDEAL), *_legend(points, jobs)]
    says = f"Speed-up against ranks beside a line of ideal speed-up: {said}."
    return Chart("scaling", says, data, {"xaxis": _rank_axis(points), "yaxis": y}, 420, legend=legend)


def draw_efficiency(points: Sequence[Point], jobs: Sequence[str]) -> Chart:
    """Efficiency against ranks."""
    data = _lines(points, lambda point: 100 * point.efficiency, jobs, "%{y:.0f} % of ideal")
    most = max(100.0, *(100 * point.efficiency for point in points), 100.0)
    said = ", ".join(f"{count(point.ranks)} ranks {percent(point.efficiency)}" for point in points)
    layout = {"xaxis": _rank_axis(points), "yaxis": axis("per cent of ideal", range=[0, 1.08 * most])}
    return Chart("efficiencies", f"Efficiency against ranks: {said}.", data, layout, 320, legend=_legend(points, jobs))


def _lines(
    points: Sequence[Point], value: Callable[[Point], float], jobs: Sequence[str], words: str
) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = []
    for work in sorted({point.work for point in points}):
        own = [point for point in points if point.work == work]
        colour, sign = _COLOURS[work % len(_COLOURS)], _SIGNS[work % len(_SIGNS)]
        firsts = {point.ranks: point for point in reversed(own)}.values()
        x, y = ([number(point) for point in sorted(firsts, key=_ranks)] for number in (_ranks, value))
        line = {"color": colour, "width": 2}
        data.append({"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line, "hoverinfo": "skip"})
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": jobs[work],
                "x": [point.ranks for point in own],
                "y": [value(point) for point in own],
                "marker": {"symbol": sign, "size": 10, "color": colour},
                "cliponaxis": False,
                "customdata": [plain(point.name) for point in own],
                "hovertemplate": f"%{{customdata}}<br>%{{x}} ranks: {words}<extra></extra>",
            }
        )
    slower = [point for point in points if point.is_slower]
    marker = {"symbol": "circle-open", "size": 20, "color": _SLOWER, "line": {"width": 3}}
    if slower:
        data.append({"type": "scatter", "mode": "markers", "x": [point.ranks for point in slower], "marker": marker,
                     "y": [value(point) for point in slower], "hoverinfo": "skip", "cliponaxis": False})  # fmt: skip
    return data


def _ranks(point: Point) -> float:
    return point.ranks


def _legend(points: Sequence[Point], jobs: Sequence[str]) -> list[tuple[str, str]]:
    slower = [("slower than an earlier run like it", _SLOWER)] if any(point.is_slower for point in points) else []
    drawn = sorted({point.work for point in points})
    return [*((jobs[work], _COLOURS[work % len(_COLOURS)]) for work in drawn), *slower]


def _rank_axis(points: Sequence[Point]) -> dict[str, Any]:
    ticks = sorted({point.ranks for point in points})
    return axis("ranks", type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
