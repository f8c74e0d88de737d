"""Blocks of a section, without their markup: prose, tables, and charts in the schema of Plotly."""

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, ClassVar

from runner.reports.pages.values import Figure

_IN_SCRIPTS = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"}
_CLEAR = "rgba(0,0,0,0)"
Row = Sequence[str]


@dataclass(frozen=True)
class Block:
    """A piece of a section.

    Attributes:
        macro: what draws it, in `templates/blocks.html.j2`.
        content: as the macro takes it.
        kind: the class of its element.
    """

    macro: str
    content: Any
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text and figures under a header; the first column names the row.

    Attributes:
        marked: indices of rows to look at.
        is_folded: closed until somebody opens it.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Row]
    marked: Collection[int] = ()
    is_folded: bool = False
    macro: ClassVar[str] = "table"

    @property
    def are_figures(self) -> list[bool]:
        """Return which columns hold figures."""
        return [any(isinstance(row[i], Figure) for row in self.rows) for i in range(len(self.header))]


@dataclass(frozen=True)
class Chart:
    """A figure of Plotly's schema.

    Attributes:
        name: of its element on the page.
        says: what it shows, in a sentence for those who do not see it.
        data, layout: as Plotly takes them; the page adds what all charts have in common.
        height: in pixels.
        tables: the same in numbers.
        legend: names and colors.
    """

    name: str
    says: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int
    tables: Sequence[Table] = ()
    legend: Sequence[tuple[str, str]] = ()
    macro: ClassVar[str] = "chart"

    @property
    def figure(self) -> str:
        """JSON that can stand in a script of a page: with null for NaN and infinity, and nothing that ends a script."""
        figure = {"data": self.data, "layout": self.layout}
        try:
            text = json.dumps(figure, separators=(",", ":"), allow_nan=False)
        except ValueError:
            text = json.dumps(_finite(figure), separators=(",", ":"), allow_nan=False)
        return text.translate(_IN_SCRIPTS)


Blocks = Sequence[Block | Table | Chart]


def prose(text: str, kind: str = "") -> Block:
    """Make a paragraph, in which options do not break."""
    return Block("prose", text, kind)


def finding(text: str) -> Block:
    """Make a paragraph of what to see in a chart."""
    return prose(text, "finding")


def plain(text: Any) -> str:
    """Escape text in a chart, which Plotly would take for HTML."""
    return escape(str(text), quote=False)


def axis(title: str, **more: Any) -> dict[str, Any]:
    """Make an axis with a title."""
    return {"title": {"text": title}} | more


def bars(color: Any, hover: str, **more: Any) -> dict[str, Any]:
    """Make bars without borders."""
    marker = {"color": color, "line": {"width": 0}}
    return {"type": "bar", "marker": marker, "hovertemplate": f"{hover}<extra></extra>"} | more


def scatter(mode: str, x: Sequence[Any], y: Sequence[Any], **more: Any) -> dict[str, Any]:
    """Make lines or markers."""
    return {"type": "scatter", "mode": mode, "x": x, "y": y} | more


def heatmap(
    z: Any, x0: float, dx: float, y: Sequence[float], hover: str, color: str, pale: str = _CLEAR, **more: Any
) -> dict[str, Any]:
    """Make a map of shares in per cent, from a pale color to the full one, in columns of equal width from `x0` on."""
    place = {"x0": x0 + dx / 2, "dx": dx, "y": y, "zmin": 0, "zmax": 100}
    look = {"colorscale": [[0, pale], [1, color]], "showscale": False, "hovertemplate": f"{hover}<extra></extra>"}
    return {"type": "heatmap", "z": z} | place | look | more


def marks(side: str, line: dict[str, Any], *notes: dict[str, Any]) -> dict[str, Any]:
    """Lay out lines across a chart, each with words: where the notes are on the axis of this side."""
    other = "y" if side == "x" else "x"
    across = {"type": "line", "line": line, f"{other}0": 0, f"{other}1": 1, f"{other}ref": "paper"}
    words = {"showarrow": False, "yanchor": "bottom", f"{other}ref": "paper"}
    return {
        "shapes": [across | {f"{side}0": note[side], f"{side}1": note[side]} for note in notes],
        "annotations": [words | note for note in notes],
    }


def bar_gap(num_bars: int, most_names: int) -> float:
    """Return the gap between bars, which is none where they are too many to have names."""
    return 0.5 if num_bars <= 4 else 0.2 if num_bars <= most_names else 0.0


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
