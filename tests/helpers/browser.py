"""Chromium without a network: it opens pages from files, and minds what goes wrong in them."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


class Page:
    """A page that is open, its charts drawn."""

    def __init__(self, page: Any) -> None:
        self._page = page
        self.faults: list[str] = []

    def evaluate(self, script: str, *arguments: Any) -> Any:
        """What a piece of JavaScript gives."""
        return self._page.evaluate(script, *arguments)

    def text(self, selector: str) -> str:
        """All that is in the first such element."""
        found: str = self._page.locator(selector).first.evaluate("(element) => element.textContent")
        return found.strip()

    def charts(self) -> dict[str, int]:
        """How many marks each chart has in its drawing: bars, lines, points, images, areas."""
        marks = ".trace path, .points path, .plot image, .fills path, .lines path"
        script = (
            "(marks) => [...document.querySelectorAll('.chart')].map((c) => [c.id, c.querySelectorAll(marks).length])"
        )
        return dict(self.evaluate(script, marks))

    def header(self, caption: str) -> list[str]:
        """Of the table with that caption."""
        return list(
            self.evaluate(f"{_FIND} [...table.tHead.rows[0].cells].map((cell) => cell.textContent) }}", caption)
        )

    def table(self, caption: str) -> list[tuple[str, list[Any]]]:
        """Of each row its name and its other cells: numbers as they are in the records, else text."""
        cell = "(cell) => cell.querySelector('data') ? +cell.querySelector('data').value : cell.textContent"
        row = f"(row) => [row.cells[0].textContent, [...row.cells].slice(1).map({cell})]"
        return [
            (name, cells) for name, cells in self.evaluate(f"{_FIND} [...table.tBodies[0].rows].map({row}) }}", caption)
        ]

    def tab_through(self, times: int) -> list[str]:
        """What the Tab key comes to, each by element and text."""
        reached = []
        for _ in range(times):
            self._page.keyboard.press("Tab")
            reached.append(self.evaluate(_FOCUSED))
        return reached

    def press_on(self, selector: str, text: str, key: str) -> None:
        """Press a key on an element with that text."""
        self._page.locator(selector, has_text=text).first.press(key)

    def set_scheme(self, scheme: str) -> None:
        """Let the system turn dark or light, and wait until the page has followed."""
        self._page.emulate_media(color_scheme=scheme)
        self._page.wait_for_timeout(500)
        assert self.faults == []


_FIND = """(caption) => {
    const table = [...document.querySelectorAll("table")].find((table) => table.caption.textContent === caption);
    return"""
_FOCUSED = """() => {
    const { tagName, textContent } = document.activeElement;
    return `${tagName.toLowerCase()} ${textContent.trim().slice(0, 80)}`;
}"""


class Browser:
    """Opens pages; what they log as errors or ask of the network fails the test at its end."""

    def __init__(self, chromium: Any) -> None:
        self._chromium = chromium

    def open(self, path: Path, width: int = 1280, color_scheme: str = "light") -> Page:
        """Open a file and wait until its charts are drawn."""
        context = self._chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=color_scheme)
        context.set_offline(True)
        context.set_default_timeout(60_000)
        opened = context.new_page()
        page = Page(opened)
        opened.on("console", lambda said: page.faults.append(said.text) if said.type in ("error", "warning") else None)
        opened.on("pageerror", lambda error: page.faults.append(str(error)))
        opened.on("request", lambda asked: asked.url.startswith("file:") or page.faults.append(asked.url))
        opened.goto(path.as_uri())
        opened.wait_for_selector("html.drawn", state="attached")
        assert page.faults == []
        return page


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Chromium; the test is skipped where it, or playwright, is missing."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium: the Debian package chromium has it")
    with driver.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield Browser(chromium)
        chromium.close()


def shown(browser: Browser, html: str, tmp_path: Path, **look: Any) -> Page:
    """The page in a browser; whatever it asks of the network, and whatever goes wrong in it, is an error."""
    path = tmp_path / "page.html"
    path.write_text(html, encoding="utf-8")
    return browser.open(path, **look)


def told(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{name}.run/report.json").read_text())
    return found
