"""HTML in pieces: text that is escaped, tables, and charts in Plotly's schema with the table that says the same. Pure.

A cell or a figure's value may come from a damaged file: NaN and infinity become null, and no text can end a script.
"""

import json
import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from runner.reports.pages.values import number

_SHORT = 24  # letters that stay on one line
_OPTION = re.compile(r"(?<!\S)(--[a-z][a-z-]*)")
_IN_SCRIPTS = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class Cell:
    """A figure in a table: in words, and as it is in the records."""

    words: str
    value: float


Row = Sequence[str | Cell]


def cell(value: Any, words: Callable[[Any], str]) -> Cell:
    """A figure, and how it is said."""
    return Cell(words(value), number(value))


@dataclass(frozen=True)
class Table:
    """Rows of text and figures under a header; the first column names the row.

    Attributes:
        marked: indices of rows to look at.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Row]
    marked: Collection[int] = ()

    def to_html(self) -> str:
        """It, in a box of its own, to be scrolled where it is too wide."""
        is_number = [any(isinstance(row[i], Cell) for row in self.rows) for i in range(len(self.header))]
        head = "".join(
            f'<th scope="col"{_aligned(of_numbers)}>{escape(name)}</th>'
            for name, of_numbers in zip(self.header, is_number, strict=True)
        )
        body = "".join(self._row(row, index in self.marked, is_number[0]) for index, row in enumerate(self.rows))
        caption = escape(self.caption)
        return (
            f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}"><table>'
            f"<caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def _row(self, row: Row, is_marked: bool, begins_with_number: bool) -> str:
        others = "".join(f"<td{_style(item)}>{_inside(item)}</td>" for item in row[1:])
        first = f'<th scope="row"{_aligned(begins_with_number)}>{_inside(row[0])}</th>'
        return f"<tr{' class=marked' if is_marked else ''}>{first}{others}</tr>"

    def folded(self) -> str:
        """The same, closed until somebody wants it."""
        return f"<details><summary>Table: {escape(self.caption)}</summary>{self.to_html()}</details>"


@dataclass(frozen=True)
class Chart:
    """A figure of Plotly's schema.

    Attributes:
        name: of its element on the page.
        says: what it shows, in a sentence for those who do not see it.
        data, layout: as Plotly takes them; the page adds what all charts have in common.
        height: in pixels.
        tables: the same in numbers.
        legend: names and colours.
    """

    name: str
    says: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int
    tables: Sequence[Table] = ()
    legend: Sequence[tuple[str, str]] = field(default=())

    def to_html(self) -> str:
        """Its element, its data beside it, and its tables below."""
        legend = "".join(
            f'<li><span class="swatch" style="background:{colour}"></span>{escape(name)}</li>'
            for name, colour in self.legend
        )
        figure = as_json({"data": self.data, "layout": self.layout})
        return (
            "<figure>"
            + (f'<ul class="legend">{legend}</ul>' if legend else "")
            + f'<div class="chart" id="{self.name}" role="img" aria-label="{escape(self.says)}" '
            f'style="height:{self.height}px"></div>'
            f'<script type="application/json" id="{self.name}-figure">{figure}</script>'
            + "".join(table.folded() for table in self.tables)
            + "</figure>"
        )


def as_json(value: Any) -> str:
    """JSON that can stand in a script of a page."""
    try:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    return text.translate(_IN_SCRIPTS)


def plain(text: Any) -> str:
    """Text in a chart, which Plotly would take for HTML."""
    return escape(str(text), quote=False)


def paragraph(text: str, kind: str = "") -> str:
    """Text as a paragraph, in which options do not break."""
    words = _OPTION.sub(r"<code>\1</code>", escape(text))
    return f"<p{f' class={kind!r}' if kind else ''}>{words}</p>"


def see_through(colour: str, opacity: float) -> str:
    """A colour `#rrggbb` that lets the page show through."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis with a title."""
    return {"title": {"text": title}} | more


def _aligned(is_number: bool) -> str:
    return ' class="number"' if is_number else ""


def _style(item: str | Cell) -> str:
    return _aligned(True) if isinstance(item, Cell) else ' class="short"' if len(item) <= _SHORT else ""


def _inside(item: str | Cell) -> str:
    if isinstance(item, str):
        return escape(item)
    if not math.isfinite(item.value):
        return escape(item.words)
    return f'<data value="{item.value!r}">{escape(item.words)}</data>'


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
