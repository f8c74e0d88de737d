"""The work of every rank over time, from `timeline.json`: a strip a rank, or a row of a map if there are many."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runner.reports.pages.blocks import Chart, axis, heatmap, plain, scatter
from runner.reports.pages.phases import REST, shown
from runner.reports.pages.values import duration

MOST_STRIPS = 8  # ranks; of more a strip is too thin to see what shares its time
_MOST_ROWS = 128
_STRIP, _LANE = 0.62, 0.1  # of a rank's height of 1: its strip, and each thin lane below
_BARE = {"showgrid": False, "zeroline": False}
_Drawing = tuple[list[dict[str, Any]], dict[str, Any], int]


@dataclass(frozen=True)
class Shares:
    """The contents of `timeline.json`.

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

    @property
    def width(self) -> float:
        """The width of a bin."""
        return float(self.edges[1] - self.edges[0])


def read_shares(timeline: dict[str, Any]) -> Shares | None:
    """Return the shares of a timeline; None where it is not one."""
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


def draw_ranks(shares: Shares, names: Sequence[str]) -> Chart:
    """Draw the chart of all ranks.

    Args:
        shares: of the job.
        names: of the ranks, such as "rank 3 on node2".
    """
    are_few, ended = len(names) <= MOST_STRIPS, duration(shares.edges[-1])
    if are_few:
        says = f"What each of {len(names)} ranks did over {ended}: one strip a rank, colored by phase."
    else:
        says = f"What {len(names)} ranks did over {ended}: one row a rank or a few, colored by what took most time."
    data, layout, height = _strips(shares, names) if are_few else _map(shares, len(names))
    limits = [min(0.0, float(shares.edges[0])), float(shares.edges[-1])]
    layout["xaxis"] |= axis("seconds since the start of rank 0", range=limits, zeroline=False)
    phases = [*shares.main, *(shares.others if are_few else [])]
    legend = [(shown(phase).name, shown(phase).color) for phase in phases]
    return Chart("ranks", says, data, layout | {"hovermode": "closest"}, height, legend=legend)


def _strips(shares: Shares, names: Sequence[str]) -> _Drawing:
    tops, bottoms = np.arange(len(names))[:, None], _bottoms(shares.of_main)
    data = [
        _polygons(phase, shares.edges, tops + _STRIP - _STRIP * low, _STRIP * (high - low))
        for phase, (low, high) in zip(shares.main, itertools.pairwise(bottoms), strict=True)
    ]
    lanes = []
    for index, (phase, share) in enumerate(zip(shares.others, shares.of_others, strict=True)):
        floor = tops + _STRIP + (index + 1) * _LANE + 0.02 * index
        data.append(_polygons(phase, shares.edges, floor + 0 * share, _LANE * share))
        lanes.append((_STRIP + (index + 0.6) * (_LANE + 0.01), shown(phase).name))
    data.append(_hover(shares, names))
    ranks = range(len(names))
    at = [*(rank + _STRIP / 2 for rank in ranks), *(rank + place for rank in ranks for place, _ in lanes)]
    small = [f'<span style="font-size:0.75em">{plain(name)}</span>' for _, name in lanes] * len(names)
    words = [*(plain(name.partition(" on ")[0]) for name in names), *small]
    y = axis("", range=[len(names), -0.05], ticks="", tickvals=at, ticktext=words, **_BARE)
    return data, {"xaxis": {}, "yaxis": y}, 70 + 96 * len(names)


def _map(shares: Shares, num_ranks: int) -> _Drawing:
    bottoms = _bottoms(shares.of_main.mean(axis=1, keepdims=True))
    data = [
        _polygons(phase, shares.edges, 1 - low, high - low)
        for phase, (low, high) in zip(shares.main, itertools.pairwise(bottoms), strict=True)
    ]
    group = -(-num_ranks // _MOST_ROWS)
    starts = range(0, num_ranks, group)
    folded = np.stack([shares.of_main[:, first : first + group].mean(axis=1) for first in starts], axis=1)
    winner, most = folded.argmax(axis=0), folded.max(axis=0)
    centers = [first + (min(group, num_ranks - first) - 1) / 2 for first in starts]
    for index, phase in enumerate(shares.main):
        is_winner = (winner == index) & (most > 0)
        columns = np.flatnonzero(is_winner.any(axis=0))
        if len(columns):
            first, last = int(columns[0]), int(columns[-1]) + 1
            cells = np.where(is_winner, np.rint(100 * most), -1)[:, first:last].astype(int).tolist()
            z = [[share if share >= 0 else None for share in row] for row in cells]
            name, color, _ = shown(phase)
            pale = f"rgba({','.join(str(int(color[at : at + 2], 16)) for at in (1, 3, 5))},0.35)"
            hover = f"rank %{{y:.0f}}, %{{x:.2f}} s<br>{plain(name)}: %{{z}} %"
            place = float(shares.edges[first]), shares.width, centers
            data.append(heatmap(z, *place, hover, color, pale, yaxis="y2", hoverongaps=False))
    height = max(220, min(6 * len(starts), 640)) + 130
    strip = 60 / height
    layout = {
        "xaxis": {"anchor": "y2"},
        "yaxis": axis("", domain=[1 - strip, 1], range=[1, 0], tickvals=[0.5], ticktext=["all ranks"], **_BARE),
        "yaxis2": axis("rank", domain=[0, 0.97 - strip], range=[num_ranks - 0.5, -0.5], **_BARE),
    }
    return data, layout, height


def _bottoms(of_main: np.ndarray) -> np.ndarray:
    """Return where each of the phases stacked on one another begins: `(phases + 1, ranks, bins)`."""
    zero = np.zeros_like(of_main[:1])
    stacked: np.ndarray = np.minimum(np.concatenate([zero, np.cumsum(of_main, axis=0)]), 1.0)
    return stacked


def _polygons(phase: str, edges: np.ndarray, floors: np.ndarray, heights: np.ndarray) -> dict[str, Any]:
    """Draw one phase of all ranks: `(ranks, bins)`, from a floor upwards, which is towards smaller numbers."""
    x: list[float | None] = []
    y: list[float | None] = []
    times = edges.round(4).tolist()
    for floor, height in zip(floors.round(4).tolist(), heights.round(4).tolist(), strict=True):
        for is_there, run in itertools.groupby(enumerate(height), key=lambda item: item[1] > 0):
            if is_there:
                span = [index for index, _ in run]
                corners = [time for index in span for time in (times[index], times[index + 1])]
                x += [*corners, *reversed(corners), None]
                y += [floor[index] - height[index] for index in span for _ in range(2)]
                y += [*(floor[index] for index in reversed(span) for _ in range(2)), None]
    name, color, _ = shown(phase)
    fill = {"fill": "toself", "fillcolor": color, "line": {"width": 0}}
    return scatter("lines", x[:-1], y[:-1], name=name, hoverinfo="skip", **fill)


def _hover(shares: Shares, names: Sequence[str]) -> dict[str, Any]:
    """Draw a map that is not seen, for what the pointer is on."""
    every = np.concatenate([shares.of_main, shares.of_others])
    percents = np.rint(100 * every).astype(int).transpose(1, 2, 0).tolist()
    phases = [shown(name).name for name in (*shares.main, *shares.others)]
    text = [
        ["<br>".join(f"{phases[i]}: {share} %" for i, share in enumerate(cell) if share) for cell in rank]
        for rank in percents
    ]
    z, y = [[0] * len(rank) for rank in text], [rank + 0.5 for rank in range(len(names))]
    hover, owners = "%{customdata}, %{x:.2f} s<br>%{text}", [[plain(name)] * len(text[0]) for name in names]
    place = float(shares.edges[0]), shares.width, y
    return heatmap(z, *place, hover, REST, text=text, customdata=owners, opacity=0)


def _stacked(phases: dict[str, Any], names: list[str], ranks: int, bins: int) -> np.ndarray:
    shares = np.asarray([phases[name] for name in names], float).reshape(-1, ranks, bins) / 100
    if not np.isfinite(shares).all() or ranks < 1 or bins < 1:
        raise ValueError("not shares")
    return np.clip(shares, 0.0, 1.0)
