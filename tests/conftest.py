"""Fixtures of more than one test file."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torchvision_ops  # noqa: F401

# The files that take longest come first, longest first: so the workers of pytest-xdist, each of which takes the next
# file when it has done one, come to an end together.
LONGEST = (
    "test_parallel test_pipeline test_lost_hosts test_same_bytes test_sinks test_resume test_stop test_hang "
    "test_matrix test_scale test_docs test_canary test_storage test_faults test_live test_urls test_doctor "
    "test_text test_quarantine test_image_models test_collect test_models test_requeue test_slurm test_batch_scripts "
    "test_hosts test_bench test_kinds test_pages test_hosts_doctor test_schedulers test_interfaces test_adapt "
    "test_soak test_faults_told test_timeline test_lines test_trace test_verbose test_shards test_loading test_explain "
    "test_ragged test_huggingface test_readme test_mpich test_memory test_sentence_transformers"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST.split())}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


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
    if os.environ.get("CI") and reporter is not None:
        skipped = [report for report in reporter.stats.get("skipped", []) if "GPU" not in str(report.longrepr)]
        if skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
