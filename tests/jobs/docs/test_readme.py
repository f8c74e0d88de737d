"""The first job of the README, and the pages that go on with it, run as they stand there; so does the demo."""

import re
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from launch import run
from pages import FIRST_JOB, ROOT, run_pages


@pytest.mark.timeout(200)
def test_the_first_job_and_what_follows(tmp_path: Path) -> None:
    outputs = run_pages(FIRST_JOB, tmp_path, threads=None)
    alone, two, again = (np.load(tmp_path / f"{name}.npy") for name in ("alone", "two", "again"))
    assert alone.shape == (10_000, 10)
    assert np.allclose(alone, two, atol=1e-6)  # not to the byte: the number of threads per rank differs
    assert np.array_equal(two, again)
    (script,) = (output for command, output in outputs.items() if command.endswith("python script.py"))
    assert script.count("10,000 rows -> memory (complete)") == 1


@pytest.mark.timeout(120)
def test_the_demo() -> None:
    """On the environment that is there already: its first run from nothing is scripts/demo.sh itself."""
    shutil.rmtree(ROOT / "demo", ignore_errors=True)
    outcome = run([ROOT / "scripts/demo.sh"], ROOT, timeout=110)
    assert outcome.code == 0, outcome.output
    accuracy = re.search(r"accuracy: ([\d.]+) on 797 held-out images", outcome.output)
    assert accuracy is not None, outcome.output
    assert float(accuracy[1]) > 0.95
    assert "$ horovodrun -np 2 hvd-runner predict --model scripts.demo_digits:cnn" in outcome.output
    assert re.search(r"797 rows -> demo/predictions.npy \(complete\): [\d,]+ rows/s on 2 ranks", outcome.output)
    assert (ROOT / "demo/predictions.npy.run/report.html").exists()


@pytest.mark.timeout(100)
def test_setup_where_the_signal_to_end_is_ignored(tmp_path: Path) -> None:
    """As under some batch systems and service managers: the clock beside each step must end all the same."""
    venv = tmp_path / "venv"
    command = ["env", "--ignore-signal=TERM", ROOT / "scripts/setup.sh", "--venv", venv, "--extras", "nothing"]
    outcome = run(command, ROOT, timeout=90)
    assert outcome.code == 1
    assert outcome.output.splitlines()[-1] == (
        "setup.sh: FAILED: --extras: pyproject.toml has no extra 'nothing', only "
        + ", ".join(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    )
