"""Charts of several runs: their rows per second and wall time, and how speed grows with ranks."""

import math
from typing import Any

from runner.reports.pages.figures import axis, bars, chart, lines, marks, plain
from runner.reports.pages.page import Values
from runner.reports.pages.phases import FORWARD, PHASES
from runner.reports.pages.values import duration, number, rate

_COLORS = (FORWARD, "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_SIGNS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
_IDEAL_COLOR, _SLOWER_COLOR = "#8d949c", "#d62728"
_ROOM = 1.25  # for the words beside the longest bar
_MOST_BARS_HEIGHT = 1600


def draw_speeds(runs: list[Values]) -> Values:
    """Draw the rows per second of each run; nothing where none is known."""
    drawn = [run for run in runs if run["speed"] > 0]
    if not drawn:
        return {}
    data = bars(
        [_COLORS[run["work"] % len(_COLORS)] for run in drawn],
        "%{customdata}: %{x:,.3g} rows/s",
        orientation="h",
        x=[run["speed"] for run in drawn],
        text=[rate(run["speed"]) for run in drawn],
        textposition="outside",
        cliponaxis=False,
    )
    longest = max(run["speed"] for run in drawn)
    return {"runs": drawn, "chart": _draw_bars("speeds", drawn, [data], "rows per second", longest)}


def draw_wall_times(runs: list[Values]) -> Values:
    """Draw the wall time of each run in its parts; nothing where none is known."""
    drawn = [run for run in runs if number(run["wall"]) > 0]
    if not drawn:
        return {}
    parts: dict[str, list[float]] = {"start-up": [], "computing": [], "finish": []}
    for run in drawn:
        startup, loop = (max(0.0, number(run[key])) for key in ("startup", "loop"))
        rest = 0.0 if math.isnan(startup + loop) else max(0.0, run["wall"] - startup - loop)
        for part, seconds in zip(parts, (startup, loop, rest), strict=True):
            parts[part].append(seconds)
    colors = (PHASES["model"].color, FORWARD, PHASES["finish"].color)
    data = [
        bars(color, f"%{{customdata}}<br>{part}: %{{x:.3g}} s", orientation="h", name=part, x=seconds)
        for (part, seconds), color in zip(parts.items(), colors, strict=True)
    ]
    whole = {"text": [duration(run["wall"]) for run in drawn], "textposition": "outside", "cliponaxis": False}
    data[-1] |= whole
    longest = max(run["wall"] for run in drawn)
    return {"runs": drawn, "chart": _draw_bars("walls", drawn, data, "seconds", longest)}


def _draw_bars(name: str, runs: list[Values], data: list[dict[str, Any]], title: str, longest: float) -> dict[str, Any]:
    """Draw a horizontal bar for each run, by its place: two runs may have one name."""
    places = [*range(len(runs))]
    names = [plain(run["name"]) for run in runs]
    for trace in data:
        trace |= {"y": places, "customdata": names}
    ticks = {
        "tickvals": places,
        "ticktext": [f"{each} ({run['config']})" for each, run in zip(names, runs, strict=True)],
    }
    y = axis(range=[len(runs) - 0.5, -0.5], showgrid=False, zeroline=False, ticks="") | ticks
    height = min(90 + 34 * len(runs), _MOST_BARS_HEIGHT)
    return chart(
        name, height, data, barmode="stack", xaxis=axis(title, range=[0, _ROOM * longest]), yaxis=y, bargap=0.3
    )


def draw_speedups(runs: list[Values]) -> Values:
    """Draw speed-up against ranks; nothing where no configuration ran on several numbers of ranks."""
    y = _log_axis("speed-up", [2.0**power for power in range(-10, 18)])
    return _draw(runs, "scaling", "speedup", "speed-up %{y:.3g}", y)


def draw_efficiencies(runs: list[Values]) -> Values:
    """Draw efficiency against ranks; nothing where no configuration ran on several numbers of ranks."""
    most = max([1.0, *(run["efficiency"] for run in runs if run["efficiency"] > 0)])
    y = axis("of ideal", tickformat=".0%", range=[0, 1.08 * most])
    return _draw(runs, "efficiencies", "efficiency", "%{y:.0%} of ideal", y)


def _draw(all_runs: list[Values], name: str, key: str, words: str, y_axis: dict[str, Any]) -> Values:
    """Draw figures against ranks: a line for each configuration, and a ring around what is slower than before."""
    runs = [run for run in all_runs if run["ranks"] > 0 and run["speedup"] > 0]
    if not runs:
        return {}
    data = []
    works = sorted({run["work"] for run in runs})
    for work in works:
        own = [run for run in runs if run["work"] == work]
        ranks, color = [run["ranks"] for run in own], _COLORS[work % len(_COLORS)]
        if key == "speedup":
            ideal = [each / own[0]["base"]["ranks"] for each in ranks]
            data.append(lines(ideal, x=ranks, name="ideal", line={"color": _IDEAL_COLOR, "dash": "dash", "width": 1.5}))
        trace = marks(_SIGNS[work % len(_SIGNS)], 10, color, x=ranks, hover=f"%{{customdata}}<br>%{{x}} ranks: {words}")
        trace |= {"mode": "lines+markers", "y": [run[key] for run in own], "line": {"color": color}}
        trace |= {"name": f"configuration {own[0]['config']}" if works[1:] else "measured"}
        data.append(trace | {"customdata": [plain(run["name"]) for run in own]})
    if slower := [run for run in runs if run["slower"]]:
        x, y = [run["ranks"] for run in slower], [run[key] for run in slower]
        data.append(marks("circle-open", 20, _SLOWER_COLOR, y, x=x, name="slower than an earlier run like it"))
    x_axis = _log_axis("ranks", sorted({run["ranks"] for run in runs}))
    return {"runs": runs, "chart": chart(name, 400, data, xaxis=x_axis, yaxis=y_axis)}


def _log_axis(title: str, ticks: list[float]) -> dict[str, Any]:
    return axis(title, type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
