"""Draw a page that stands alone: style, program and Plotly are in it, and it may not load anything else."""

import contextlib
import functools
import importlib.util
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from runner.core.imports import missing_library
from runner.reports.pages.blocks import Blocks, prose

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = Path(__file__).parent
_OPTION = re.compile(r"(?<!\S)(--[a-z][a-z-]*)")
_PLOTLY = b"<script data-plotly></script>"  # where the program that draws goes, which is long; text cannot contain it


class Section(NamedTuple):
    """A part of a page under a heading: the name of its element, what links to it say, its title, its markup."""

    name: str
    short: str
    title: str
    html: str


def make_section(name: str, short: str, title: str, *makers: Callable[[], Blocks]) -> Section:
    """Draw a section; what a damaged record spoils says so, and spoils nothing else."""
    return Section(name, short, title, "".join(map(_draw, makers)))


def make_page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Draw a page of those sections that are not empty; it lacks Plotly."""
    style, program = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    template, made = _templates().get_template("page.html.j2"), time.strftime("%Y-%m-%d %H:%M:%S")
    sections = [section for section in sections if section.html]
    return template.render(title=title, subtitle=subtitle, sections=sections, style=style, program=program, made=made)


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
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.writelines(parts)
        os.replace(beside, path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def _draw(make: Callable[[], Blocks]) -> str:
    macros: Any = _templates().get_template("blocks.html.j2").module
    try:
        return "".join(getattr(macros, block.macro)(block) for block in make())
    except Exception as error:
        words = f"This could not be made of what is there: the records are damaged ({type(error).__name__})."
        return str(macros.prose(prose(words)))


@functools.cache
def _templates() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # only a process that draws a page needs it
    from markupsafe import Markup, escape

    templates = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["options"] = lambda text: Markup(_OPTION.sub(r"<code>\1</code>", str(escape(text))))
    return templates


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
