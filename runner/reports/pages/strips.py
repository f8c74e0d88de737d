"""What every rank did when, as `timeline.json` has it: a strip for each rank, or a row of a map where they are many."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from runner.reports.pages.markup import Chart, axis, plain, see_through
from runner.reports.pages.phases import shown
from runner.reports.pages.values import duration

MOST_STRIPS = 8  # ranks; of more a strip is too thin to see what shares its time
_MOST_ROWS = 128
_STRIP, _LANE = (0.0, 0.62), 0.1  # of a rank's height of 1: its strip, and each thin lane below


@dataclass(frozen=True)
class Shares:
    """Of one timeline.

    Attributes:
        edges: `(bins + 1,)`, in seconds since rank 0's process started.
        main, others: names of phases.
        of_main, of_others: `(phases, ranks, bins)`, each phase's share of the time of a bin.
        rows: `(bins,)`, of all ranks.
    """

    edges: np.ndarray
    main: list[str]
    others: list[str]
    of_main: np.ndarray
    of_others: np.ndarray
    rows: np.ndarray


def read_shares(timeline: dict[str, Any]) -> Shares | None:
    """The timeline in `timeline.json`; None where it is not one."""
    try:
        bins, phases = len(timeline["rows"]), dict(timeline["phases"])
        main, others = ([name for name in timeline[key] if name in phases] for key in ("main", "others"))
        edges = np.linspace(float(timeline["began"]), float(timeline["ended"]), bins + 1)
        of_main, of_others = (_stacked(phases, names, len(phases[main[0]]), bins) for names in (main, others))
        rows = np.asarray(timeline["rows"], float)
        is_whole = rows.shape == (bins,) and bool(np.isfinite(rows).all()) and edges[-1] > edges[0]
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        return None
    return Shares(edges, main, others, of_main, of_others, rows) if is_whole else None


def draw_ranks(shares: Shares, names: list[str]) -> Chart:
    """The chart of all ranks.

    Args:
        shares: of the job.
        names: of the ranks, such as "rank 3 on node2".
    """
    num_ranks = shares.of_main.shape[1]
    phases = [*shares.main, *(shares.others if num_ranks <= MOST_STRIPS else [])]
    legend = [(shown(name).name, shown(name).colour) for name in phases]
    ended = duration(shares.edges[-1])
    if num_ranks <= MOST_STRIPS:
        data, layout, height = _strips(shares, names)
        says = f"What each of {num_ranks} ranks did over {ended}: one strip a rank, coloured by phase."
    else:
        data, layout, height = _map(shares, names)
        says = f"What {num_ranks} ranks did over {ended}: one row a rank or a few, coloured by what took most time."
    return Chart("ranks", says, data, layout, height, legend=legend)


def _strips(shares: Shares, names: list[str]) -> tuple[list[dict[str, Any]], dict[str, Any], int]:
    num_ranks, bottoms = len(names), _bottoms(shares.of_main)
    data, tops = [], np.arange(num_ranks)
    for index, phase in enumerate(shares.main):
        low, high = bottoms[index], bottoms[index + 1]
        depth = _STRIP[1] - _STRIP[0]
        data.append(_polygons(phase, shares.edges, tops[:, None] + _STRIP[1] - depth * low, depth * (high - low)))
    for index, phase in enumerate(shares.others):
        floor = tops[:, None] + _STRIP[1] + (index + 1) * _LANE + 0.02 * index
        data.append(
            _polygons(phase, shares.edges, floor + 0 * shares.of_others[index], _LANE * shares.of_others[index])
        )
    data.append(_hover(shares, names))
    centres = [rank + sum(_STRIP) / 2 for rank in range(num_ranks)]
    lanes = [(rank + _STRIP[1] + (i + 0.6) * (_LANE + 0.01), shown(name).name) for rank in range(num_ranks)
             for i, name in enumerate(shares.others)]  # fmt: skip
    small = [f'<span style="font-size:0.75em">{plain(name)}</span>' for _, name in lanes]
    ticks = {"tickvals": [*centres, *(at for at, _ in lanes)], "ticktext": [*map(_short, names), *small]}
    y = axis("", range=[num_ranks, -0.05], showgrid=False, zeroline=False, ticks="", **ticks)
    return data, {"xaxis": _seconds(shares), "yaxis": y, "hovermode": "closest"}, 70 + 96 * num_ranks


def _map(shares: Shares, names: list[str]) -> tuple[list[dict[str, Any]], dict[str, Any], int]:
    mean = shares.of_main.mean(axis=1, keepdims=True)
    bottoms = _bottoms(mean)
    data = [
        _polygons(phase, shares.edges, 1 - bottoms[index], bottoms[index + 1] - bottoms[index])
        for index, phase in enumerate(shares.main)
    ]
    group = -(-len(names) // _MOST_ROWS)
    starts = range(0, len(names), group)
    folded = np.stack([shares.of_main[:, first : first + group].mean(axis=1) for first in starts], axis=1)
    winner, most = folded.argmax(axis=0), folded.max(axis=0)
    width, height = shares.edges[1] - shares.edges[0], max(220, min(6 * len(starts), 640))
    for index, phase in enumerate(shares.main):
        is_winner = (winner == index) & (most > 0)
        columns = np.flatnonzero(is_winner.any(axis=0))
        if not len(columns):
            continue
        first, last = int(columns[0]), int(columns[-1]) + 1
        cells = np.where(is_winner, np.rint(100 * most), -1)[:, first:last].astype(int).tolist()
        colour = shown(phase).colour
        data.append(
            {
                "type": "heatmap",
                "z": [[share if share >= 0 else None for share in row] for row in cells],
                "x0": float(shares.edges[first] + width / 2),
                "dx": float(width),
                "y": [first + (min(group, len(names) - first) - 1) / 2 for first in starts],
                "yaxis": "y2",
                "zmin": 0,
                "zmax": 100,
                "colorscale": [[0, see_through(colour, 0.35)], [1, colour]],
                "showscale": False,
                "hoverongaps": False,
                "hovertemplate": "rank %{y:.0f}, %{x:.2f} s<br>" + plain(shown(phase).name) + ": %{z} %<extra></extra>",
            }
        )
    strip = 60 / (height + 130)
    bare = {"showgrid": False, "zeroline": False}
    layout = {
        "xaxis": _seconds(shares) | {"anchor": "y2"},
        "yaxis": axis("", domain=[1 - strip, 1], range=[1, 0], tickvals=[0.5], ticktext=["all ranks"], **bare),
        "yaxis2": axis("rank", domain=[0, 0.97 - strip], range=[len(names) - 0.5, -0.5], **bare),
        "hovermode": "closest",
    }
    return data, layout, height + 130


def _bottoms(of_main: np.ndarray) -> np.ndarray:
    """Of phases stacked on one another: `(phases + 1, ranks, bins)`, where each begins."""
    zero = np.zeros_like(of_main[:1])
    stacked: np.ndarray = np.minimum(np.concatenate([zero, np.cumsum(of_main, axis=0)]), 1.0)
    return stacked


def _polygons(phase: str, edges: np.ndarray, floors: np.ndarray, heights: np.ndarray) -> dict[str, Any]:
    """One phase of all ranks: `(ranks, bins)`, from a floor upwards, which is towards smaller numbers."""
    x: list[float | None] = []
    y: list[float | None] = []
    times = edges.round(4).tolist()
    for floor, height in zip(floors.round(4).tolist(), heights.round(4).tolist(), strict=True):
        bins = enumerate(height)
        for is_there, run in itertools.groupby(bins, key=lambda item: item[1] > 0):
            if is_there:
                span = [index for index, _ in run]
                corners = [time for index in span for time in (times[index], times[index + 1])]
                x += [*corners, *reversed(corners), None]
                y += [floor[index] - height[index] for index in span for _ in range(2)]
                y += [*(floor[index] for index in reversed(span) for _ in range(2)), None]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": shown(phase).name,
        "x": x[:-1],
        "y": y[:-1],
        "fill": "toself",
        "fillcolor": shown(phase).colour,
        "line": {"width": 0},
        "hoverinfo": "skip",
    }


def _hover(shares: Shares, names: list[str]) -> dict[str, Any]:
    """A map that is not seen, for what the pointer is on."""
    every = np.concatenate([shares.of_main, shares.of_others])
    percent = np.rint(100 * every).astype(int).transpose(1, 2, 0).tolist()
    phases = [shown(name).name for name in (*shares.main, *shares.others)]
    text = [
        ["<br>".join([f"{phases[i]}: {share} %" for i, share in enumerate(cell) if share]) for cell in rank]
        for rank in percent
    ]
    width = float(shares.edges[1] - shares.edges[0])
    return {
        "type": "heatmap",
        "z": [[0] * len(rank) for rank in text],
        "x0": float(shares.edges[0]) + width / 2,
        "dx": width,
        "y": [rank + 0.5 for rank in range(len(names))],
        "text": text,
        "customdata": [[plain(name)] * len(rank) for name, rank in zip(names, text, strict=True)],
        "opacity": 0,
        "showscale": False,
        "hovertemplate": "%{customdata}, %{x:.2f} s<br>%{text}<extra></extra>",
    }


def _seconds(shares: Shares) -> dict[str, Any]:
    limits = [min(0.0, float(shares.edges[0])), float(shares.edges[-1])]
    return axis("seconds since the start of rank 0", range=limits, zeroline=False)


def _short(name: str) -> str:
    return plain(name.partition(" on ")[0])


def _stacked(phases: dict[str, Any], names: list[str], ranks: int, bins: int) -> np.ndarray:
    shares = np.asarray([phases[name] for name in names], float).reshape(-1, ranks, bins) / 100
    if not np.isfinite(shares).all() or ranks < 1 or bins < 1:
        raise ValueError("not shares")
    return np.clip(shares, 0.0, 1.0)
