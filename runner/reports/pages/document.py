"""A page that stands alone: style, program and Plotly are in it, and it may not load anything else."""

import contextlib
import importlib.util
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from runner.core.errors import UsageError

_HERE = Path(__file__).parent
_NOTHING_ELSE = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading; left out where it is empty.

    Attributes:
        name: of its element.
        short: what links to it say.
    """

    name: str
    short: str
    title: str
    html: str


@dataclass(frozen=True)
class Document:
    """A page: what is before and after the program that draws, which is long and stays as it is."""

    before: str
    after: str

    def to_html(self) -> str:
        """The whole of it.

        Raises:
            UsageError: Plotly is not installed.
        """
        return self.before + _plotly().decode() + self.after

    def write(self, path: Path) -> None:
        """Put it into a file, at once.

        Raises:
            UsageError: Plotly is not installed.
            OSError: it cannot be written.
        """
        parts = (self.before.encode(), _plotly(), self.after.encode())
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with beside.open("wb") as file:
                file.writelines(parts)
            os.replace(beside, path)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise


def make_document(title: str, subtitle: str, sections: Sequence[Section]) -> Document:
    """A page of those sections that are not empty."""
    parts = [section for section in sections if section.html]
    links = "".join(f'<li><a href="#{part.name}">{escape(part.short)}</a></li>' for part in parts)
    body = "".join(
        f'<section id="{part.name}" aria-labelledby="{part.name}-title">'
        f'<h2 id="{part.name}-title">{escape(part.title)}</h2>{part.html}</section>\n'
        for part in parts
    )
    made = time.strftime("%Y-%m-%d %H:%M:%S")
    before = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_NOTHING_ELSE}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{_own('page.css')}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#main">Skip to the content</a>\n'
        f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></header>\n"
        f'<nav aria-label="On this page"><ul>{links}</ul></nav>\n<main id="main" tabindex="-1">\n'
        "<noscript><p>Charts need JavaScript; the tables below each have the same numbers.</p></noscript>\n"
        f"{body}</main>\n"
        f"<footer><p>Made {made} by horovod-inference-runner. It needs no network.</p></footer>\n<script>"
    )
    return Document(before, f"</script>\n<script>{_own('page.js')}</script>\n</body>\n</html>\n")


def _plotly() -> bytes:
    """The program that draws, as Plotly's Python package brings it; the package itself is not imported."""
    found = importlib.util.find_spec("plotly")
    for place in (found.submodule_search_locations if found else None) or []:
        path = Path(place) / "package_data" / "plotly.min.js"
        if path.is_file():
            return path.read_bytes().replace(b"</script", b"<\\/script")
    raise UsageError("pages need Plotly, which is not installed: pip install 'horovod-inference-runner[report]'")


def _own(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
