"""Two jobs with one output, at every moment of the first one's life: one wins, and nothing is lost."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from launch import PATIENCE, await_chunks, await_that, finish, mpirun, predict_command, predict_here, run_here, start

ROWS = np.arange(192, dtype="f4").reshape(64, 3)
MODELS = """
import os
import time
from torch import nn

def pause(moment):
    if os.path.exists(f"pause-{moment}"):
        open(f"at-{moment}", "w").close()
        while os.path.exists(f"pause-{moment}"):
            time.sleep(0.02)

class Doubles(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = -1.0
        pause("loading")

    def forward(self, rows):
        pause("first row")
        if self.last >= 96:
            pause("computing")
        if self.last == 189 and rows[0, 0] < 189:  # all are computed, and the ranks are compared once more
            pause("ending")
        self.last = float(rows[-1, 0])
        return rows * 2

class Triples(nn.Module):
    def forward(self, rows):
        return rows * 3
"""
MOMENTS = ["loading", "first row", "computing", "ending"]
WITH_ROWS = MOMENTS[2:]
JOBS = {  # and what each writes
    "the same": (["--model", "pausing:Doubles", "--data", "d.npy"], ROWS * 2),
    "another model": (["--model", "pausing:Triples", "--data", "d.npy"], ROWS * 3),
    "other data": (["--model", "pausing:Doubles", "--data", "e.npy"], ROWS[:40] * 2),
    "other rows": (["--model", "pausing:Doubles", "--data", "d.npy", "--skip", "8"], ROWS[8:] * 2),
}


def options(job: str) -> list[str]:
    return [*JOBS[job][0], "--weights", "none", "--output", "x.npy", "--batch-size", "4", "--chunk-size", "8"]


@pytest.fixture
def begin(tmp_path: Path) -> Callable[[str], "subprocess.Popen[str]"]:
    """A function that starts the first job, and returns when it has come to a moment."""
    (tmp_path / "pausing.py").write_text(MODELS)
    np.save(tmp_path / "d.npy", ROWS)
    np.save(tmp_path / "e.npy", ROWS[:40])

    def begin(moment: str) -> "subprocess.Popen[str]":
        (tmp_path / f"pause-{moment}").touch()
        first = start(predict_command(*options("the same")), tmp_path)
        await_that((tmp_path / f"at-{moment}").exists, first)
        if moment in WITH_ROWS:
            await_chunks(tmp_path / "x.npy.run", 3, first)
        return first

    return begin


@pytest.mark.cold  # its process is named
@pytest.mark.parametrize("moment", MOMENTS)
def test_beside_a_job_at_work(moment: str, begin: Callable[[str], "subprocess.Popen[str]"], tmp_path: Path) -> None:
    first = begin(moment)
    for job in JOBS:
        outcome = predict_here(*options(job), "--overwrite", "--fresh", folder=tmp_path)
        assert outcome.code == 73, (job, outcome.output)
        assert f"is being written by another job: process {first.pid} on" in outcome.output
    (tmp_path / f"pause-{moment}").unlink()
    outcome = finish(first, PATIENCE)
    assert outcome.code == 0, outcome.output
    assert np.array_equal(np.load(tmp_path / "x.npy"), ROWS * 2)
    for job in JOBS:  # and after it
        outcome = predict_here(*options(job), folder=tmp_path)
        assert (outcome.code, "x.npy exists already" in outcome.output) == (73, True), outcome.output
    assert run_here("verify", "x.npy", folder=tmp_path).code == 0


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("job", list(JOBS))
def test_after_a_killed_job(
    job: str, moment: str, begin: Callable[[str], "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    first = begin(moment)
    os.killpg(first.pid, signal.SIGKILL)
    finish(first, PATIENCE)
    (tmp_path / f"pause-{moment}").unlink()
    outcome = predict_here(*options(job), folder=tmp_path)
    if job == "the same" or moment not in WITH_ROWS:
        assert outcome.code == 0, outcome.output
        assert np.array_equal(np.load(tmp_path / "x.npy"), JOBS[job][1])
        assert ("of them done by an earlier job" in outcome.output) == (moment in WITH_ROWS), outcome.output
    else:
        assert outcome.code == 65, outcome.output
        assert "x.npy.run holds an unfinished run of another job: it differs in" in outcome.output
        outcome = predict_here(*options("the same"), folder=tmp_path)
        assert outcome.code == 0, outcome.output
        assert "of them done by an earlier job" in outcome.output  # not a row of the first is lost
        assert np.array_equal(np.load(tmp_path / "x.npy"), ROWS * 2)


@pytest.mark.parametrize("launchers", [([], []), (mpirun(2), [])], ids=["alone", "two ranks and one"])
def test_at_the_same_moment(
    launchers: tuple[list[str], list[str]], begin: Callable[[str], object], tmp_path: Path
) -> None:
    jobs = ["another model", "other data"]
    started = [
        start(predict_command(*options(job), launcher=by), tmp_path) for job, by in zip(jobs, launchers, strict=True)
    ]
    outcomes = [finish(process, PATIENCE) for process in started]
    winners = [job for job, outcome in zip(jobs, outcomes, strict=True) if outcome.code == 0]
    losers = [outcome for outcome in outcomes if outcome.code != 0]
    assert (len(winners), [outcome.code for outcome in losers]) == (1, [73]), outcomes
    assert "being written by another job" in losers[0].output or "exists already" in losers[0].output
    assert np.array_equal(np.load(tmp_path / "x.npy"), JOBS[winners[0]][1])
