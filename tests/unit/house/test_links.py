"""Links, headings, paths and options that the documentation names exist, and the site can be built of it."""

import dataclasses
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pages import DOCS, ROOT

from runner.config.options import Config

MORE = ("CONTRIBUTING.md", "CHANGELOG.md", "hostfiles/README.md", "scripts/batch/README.md")
RESULTS = ("scripts/bench/results/bench.md", "scripts/bench/results/scale.md")
PAGES = ("README.md", *DOCS, *MORE, *RESULTS)
_CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?://)([^)\s]+)\)")
_PATH = re.compile(r"`((?:\.ci|docs|findings|hostfiles|runner|scripts|tests)/[\w./-]*)`")
_MODULE = re.compile(r"`runner((?:\.[A-Za-z_]\w*)+)(?:\(\))?`")


def headings(path: Path) -> set[str]:
    """The names by which the headings of a page are linked to, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    names: set[str] = set()
    for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        count = sum(1 for other in names if re.fullmatch(rf"{re.escape(name)}(-\d+)?", other))
        names.add(f"{name}-{count}" if count else name)
    return names


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    for target in _LINK.findall(_CODE.sub("", (ROOT / page).read_text())):
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), target
        assert not anchor or anchor in headings(path), f"{target}: there is no such heading"


def test_a_dead_link_is_found() -> None:
    assert "life-of-a-chunk" in headings(ROOT / "docs/architecture.md")
    assert "life-of-a-chunks" not in headings(ROOT / "docs/architecture.md")
    assert _LINK.findall("[a](b.md#c) [d](https://e) ![f](g.png)") == ["b.md#c", "g.png"]


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_is_named_exists(page: str) -> None:
    for path in _PATH.findall((ROOT / page).read_text()):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES)
def test_every_module_that_is_named_exists(page: str) -> None:
    for name in _MODULE.findall((ROOT / page).read_text()):
        path, parts = ROOT / "runner", name[1:].split(".")
        while parts and (path / parts[0]).is_dir():
            path /= parts.pop(0)
        module = path / f"{parts[0]}.py" if parts and (path / f"{parts[0]}.py").exists() else path / "__init__.py"
        assert all(part in module.read_text() for part in parts if part != module.stem), f"runner{name}"


def test_the_page_of_options_is_what_the_script_makes() -> None:
    command = [sys.executable, ROOT / "scripts/options_page.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_of_options_has_every_option() -> None:
    page = (ROOT / "docs/options.md").read_text()
    for field in dataclasses.fields(Config):
        row = re.search(rf"^\| `--{field.name.replace('_', '-')}[ `].*$", page, re.MULTILINE)
        assert row, field.name
        assert field.metadata["help"].split()[0] in row[0]
        assert ".md)" in row[0], f"{field.name}: no page explains it, see scripts/options_page.py"


def test_the_page_that_explains_an_option_names_it() -> None:
    page = (ROOT / "docs/options.md").read_text()
    for option, target in re.findall(r"^\| `(--[\w-]+).*\]\(([\w-]+\.md)\) \|$", page, re.MULTILINE):
        assert option in (ROOT / "docs" / target).read_text(), f"{target} does not name {option}"


def test_every_metric_is_told() -> None:
    page = (ROOT / "docs/monitoring.md").read_text()
    names = re.findall(r'"(runner_\w+)"', (ROOT / "runner/telemetry/prometheus.py").read_text())
    assert len(names) > 10
    for name in names:
        assert re.search(rf"^\| `{name}(_total)?[`{{]", page, re.MULTILINE), name


def test_every_extra_is_told() -> None:
    rows = re.findall(r"^\| (`.*) \|.* \|$", (ROOT / "docs/getting-started.md").read_text(), re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras) == set(re.findall(r"`([\w-]+)`", " ".join(rows)))


def test_the_site_can_be_built(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site/getting-started.html").exists()
    assert (tmp_path / "site/scripts/bench/results/bench.png").exists()
