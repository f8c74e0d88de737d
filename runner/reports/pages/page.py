"""A page that stands alone: style, program and Plotly are in it, and it may not load anything else."""

import functools
import importlib.util
import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from runner.core.atomic import atomic_file
from runner.core.imports import missing_library
from runner.reports.pages import values

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = Path(__file__).parent
_OPTION = re.compile(r"(?<!\S)(--[a-z][a-z-]*)")
_PLOTLY = b"<script data-plotly></script>"  # where the program that draws goes, which is long; text cannot contain it
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
    """Draw a page of those sections that are not empty; it lacks Plotly. Sections may add to the notes."""
    drawn = [(section, html) for section in sections if (html := _draw(section))]
    style, program = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    about = {"title": title, "subtitle": subtitle, "sections": drawn, "notes": dict.fromkeys(notes)}
    made = time.strftime("%Y-%m-%d %H:%M:%S")
    return render("page.html.j2", **about, style=style, program=program, made=made)


def render(template: str, **context: Any) -> str:
    """Fill in one of the templates."""
    return _templates().get_template(template).render(context)


def compile_templates() -> None:
    """Compile all templates, which takes longer than to fill them in."""
    templates = _templates()
    for name in templates.list_templates():
        templates.get_template(name)


def complete(page: str) -> str:
    """Return a page with Plotly in it.

    Raises:
        UsageError: Plotly is not installed.
    """
    return b"".join(_parts(page)).decode()


def write(page: str, path: Path) -> None:
    """Write a page with Plotly in it, at once.

    Raises:
        UsageError: Plotly is not installed.
        OSError: the page cannot be written.
    """
    parts = _parts(page)
    with atomic_file(path) as file:
        file.buffer.writelines(parts)


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


def _parts(page: str) -> list[bytes]:
    before, after = page.encode(errors="replace").split(_PLOTLY)  # a path need not be Unicode
    return [before, b"<script>", _plotly(), b"</script>", after]


def _plotly() -> bytes:
    """Read Plotly's program, as its Python package brings it; the package itself is not imported."""
    package = importlib.util.find_spec("plotly")
    for place in (package.submodule_search_locations if package else None) or []:
        path = Path(place) / "package_data" / "plotly.min.js"
        if path.is_file():
            return path.read_bytes().replace(b"</script", b"<\\/script")
    raise missing_library("plotly", "a page", "report")
