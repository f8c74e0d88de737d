"""A page that stands alone: style, program and Plotly are in it, and it may not load anything else."""

import base64
import functools
import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from runner.core.atomic import atomic_file
from runner.reports.pages import values

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = Path(__file__).parent
_OPTION = re.compile(r"(?<![^\s(])(--[a-z][a-z-]*)")
_PLOTLY = _HERE / "plotly" / "plotly-cartesian.min.js.gz"
Values = dict[str, Any]


class Section(NamedTuple):
    """A part of a page under a heading.

    Attributes:
        name: of its template, and of its element.
        short: what links to it say.
        title: its heading.
        values: what its template shows; nothing, and the section is left out.
    """

    name: str
    short: str
    title: str
    values: Callable[[], Values]


def draw_page(title: str, subtitle: str, sections: Sequence[Section], notes: Sequence[str] = ()) -> str:
    """Draw a page of those sections that are not empty. Sections may add to the notes."""
    drawn = [(section, html) for section in sections if (html := _draw(section))]
    style, program = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    about = {"title": title, "subtitle": subtitle, "sections": drawn, "notes": dict.fromkeys(notes)}
    made = time.strftime("%Y-%m-%d %H:%M:%S")
    plotly = base64.b64encode(_PLOTLY.read_bytes()).decode()
    page = render("page.html.j2", **about, style=style, program=program, plotly=plotly, made=made)
    return page.encode(errors="replace").decode()  # a path need not be Unicode


def render(template: str, **context: Any) -> str:
    """Fill in one of the templates."""
    return _templates().get_template(template).render(context)


def compile_templates(sections: Sequence[str]) -> None:
    """Compile the templates of these sections and of the page, which takes longer than to fill them in."""
    for name in ("page", *sections):
        _templates().get_template(f"{name}.html.j2")


def write(page: str, path: Path) -> None:
    """Write a page at once, as UTF-8 in any locale.

    Raises:
        OSError: the page cannot be written.
    """
    with atomic_file(path) as file:
        file.buffer.write(page.encode())


def _draw(section: Section) -> str:
    """Draw a section; what a damaged record spoils says so, and spoils nothing else."""
    try:
        shown = section.values()
        return render(f"{section.name}.html.j2", **shown) if shown else ""
    except Exception as error:
        return render("damaged.html.j2", error=type(error).__name__)


@functools.cache
def _templates() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # only a process that draws a page needs it
    from markupsafe import Markup, escape

    templates = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=lambda name: str(name).endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats = {name: getattr(values, name) for name in values.FORMATS}
    templates.filters.update(formats)
    templates.globals.update(formats)
    templates.filters["tidy"] = lambda text: Markup(" ".join(escape(text).split()))
    templates.filters["options"] = lambda text: Markup(_OPTION.sub(r"<code>\1</code>", str(escape(text))))
    templates.policies["json.dumps_function"] = _as_json
    templates.policies["json.dumps_kwargs"] = {}
    templates.globals.update(vars(templates.get_template("macros.html.j2").module))
    return templates


def _as_json(value: Any) -> str:
    """Write JSON, with null for NaN and infinity."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return _as_json(json.loads(json.dumps(value), parse_constant=lambda name: None))
