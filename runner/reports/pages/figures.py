"""Charts in Plotly's schema; what all of them have in common is in `page.js`."""

from collections.abc import Sequence
from html import escape
from typing import Any

from runner.reports.pages.values import number, rate

MOST_NAMES = 16  # of bars
Trace = dict[str, Any]


def chart(name: str, height: int, data: list[Trace], **layout: Any) -> dict[str, Any]:
    """Make a chart: the name of its element, its height in pixels, its figure, and the colors of its named traces."""
    colors = {trace["name"]: _color(trace) for trace in data if "name" in trace}
    return {"name": name, "height": height, "figure": {"data": data, "layout": layout}, "colors": colors}


def _color(trace: Trace) -> str:
    looks = ({"color": trace.get("fillcolor")}, trace.get("marker", {}), trace.get("line", {}))
    return str(next(look["color"] for look in looks if look.get("color")))


def plain(text: Any) -> str:
    """Escape text in a chart, which Plotly would take for HTML."""
    return escape(str(text), quote=False)


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """Make an axis with a title."""
    return {"title": {"text": title}} | more


def bars(color: Any, hover: str, **more: Any) -> Trace:
    """Make bars; their hover label is that text."""
    return {"type": "bar", "marker": {"color": color}, "hovertemplate": f"{hover}<extra></extra>"} | more


def rank_bars(
    name: str,
    rows: Sequence[Any],
    unit: str,
    parts: Sequence[tuple[str, str, str]],
    noun: str,
    outer: Sequence[str] = (),
) -> dict[str, Any]:
    """Draw a bar for each rank, or for each group: few by their first ranks, many from the greatest on.

    Args:
        name: of the chart.
        rows: figures of each; with a `name`.
        unit: of the values.
        parts: of each bar: the name, the color, and the key of the value in a row.
        noun: for one of them.
        outer: what each of them is part of, if it is to be told.
    """
    title = noun if noun == "rank" else "group, by its first rank"
    if are_many := len(rows) > MOST_NAMES:
        rows = sorted(rows, key=lambda row: -number(row[parts[0][2]]))
        title = f"{rate(len(rows))} {noun}s, the greatest first"
    x = [str(row["rank"]) for row in rows]
    names = {"type": "multicategory" if outer else "category", "showgrid": False, "showticklabels": not are_many}
    data = [
        bars(color, f"%{{customdata}}<br>{part}: %{{y:.3g}} {unit}", name=part, x=[[*outer], x] if outer else x,
             y=[row[key] for row in rows], customdata=[plain(row["name"]) for row in rows])
        for part, color, key in parts
    ]  # fmt: skip
    return chart(
        name,
        300,
        data,
        barmode="group" if unit == "GiB" else "stack",
        xaxis=axis(title) | names,
        yaxis=axis(unit, rangemode="tozero"),
        bargap=0.85 if len(rows) == 1 else 0.5 if len(rows) <= 4 else 0.0 if are_many else 0.2,
    )


def lines(y: Sequence[Any], hover: str = "", **more: Any) -> Trace:
    """Make a line, an area or marks, without a hover label where it has no text."""
    label = {"hovertemplate": f"{hover}<extra></extra>"} if hover else {"hoverinfo": "skip"}
    return {"type": "scatter", "mode": "lines", "y": y} | label | more


def marks(symbol: str, size: int, color: str, y: Sequence[Any] = (), hover: str = "", **more: Any) -> Trace:
    """Make marks of one kind."""
    marker = {"symbol": symbol, "size": size, "color": color, "line": {"color": color, "width": 2}}
    return lines(y, hover) | {"mode": "markers", "marker": marker, "cliponaxis": False} | more


def mark_at(side: str, value: float, text: str, color: str, length: float = 1.0, **label: Any) -> dict[str, Any]:
    """Make a line across a chart, at a value of the axis of this side, with words at its upper or left end."""
    other = "y" if side == "x" else "x"
    ends = {f"{side}0": value, f"{side}1": value, f"{other}0": 0, f"{other}1": length, f"{other}ref": "paper"}
    words = {"text": text, "textangle": 0, "yanchor": "bottom"}
    words |= {"textposition": "end"} if side == "x" else {"textposition": "start", "xanchor": "left"}
    return {"type": "line", "line": {"color": color, "width": 1.5, "dash": "dot"}, "label": words | label} | ends
