"""Fixtures of more than one test file."""

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import launch
import pytest
import torchvision_ops  # noqa: F401

TESTS = Path(__file__).parent
DURATIONS = TESTS / "durations.json"  # seconds of each file; written by --update-durations
MARKERS = {"jobs": "launch", "cluster": "cluster", "browser": "browser"}  # by folder


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-durations", action="store_true", help="write tests/durations.json after a run of all")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests by their folder; sort the files, longest first, so that the workers finish together."""
    seconds = json.loads(DURATIONS.read_text())
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in MARKERS:
            item.add_marker(MARKERS[folder])
    items.sort(key=lambda item: -seconds.get(_name(item.path), float("inf")))  # new files first


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    launch.is_preloaded = item.get_closest_marker("cold") is None


def _name(path: Path) -> str:
    return str(path.relative_to(TESTS))


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that cannot be written to, even by root, to whom permissions do not apply."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    if os.geteuid():
        folder.chmod(0o500)
        yield folder
        folder.chmod(0o700)
        return
    command = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder]
    mount = subprocess.run(command, capture_output=True, text=True, check=False)
    if mount.returncode:
        pytest.skip(f"as root only a read-only mount cannot be written to, and: {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a failure, but for want of a GPU: there everything else is installed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    if os.environ.get("CI"):
        skipped = [report for report in reporter.stats.get("skipped", []) if "GPU" not in str(report.longrepr)]
        if skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if session.config.getoption("--update-durations"):
        reports = [report for reports in reporter.stats.values() for report in reports]
        _write_durations(report for report in reports if isinstance(report, pytest.TestReport))


def _write_durations(reports: Iterable[pytest.TestReport]) -> None:
    seconds: Counter[str] = Counter()
    for report in reports:
        seconds[_name(TESTS.parent / report.nodeid.partition("::")[0])] += report.duration
    rounded = {name: round(total, 1) for name, total in seconds.most_common()}
    DURATIONS.write_text(json.dumps(rounded, indent=1) + "\n")
