"""Batch scripts under a real Slurm: submit one, look at its job, wait for its end."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parents[2] / "scripts/batch"

# tiny_model's predictions. From the fifth whole batch on (the runner tries out the first two) it waits for the file
# `told` in `folder`, and then takes two seconds for each. A job that Slurm has started again does not wait. `folder`
# gets an empty file for each start, and `computing`.
PATIENT = """
import os
import time
from pathlib import Path

from torch import nn

import tiny_model

class Patient(nn.Module):
    def __init__(self, folder):
        super().__init__()
        self.model, self.folder, self.batches = tiny_model.build(), Path(folder), 0
        self.restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        (self.folder / f"start-{self.restarts}").touch()

    def forward(self, rows):
        self.batches += len(rows) == 4
        if self.batches > 4 and not self.restarts:
            (self.folder / "computing").touch()
            give_up = time.monotonic() + 150
            while not (self.folder / "told").exists() and time.monotonic() < give_up:
                time.sleep(0.1)
            time.sleep(2)
        return self.model(rows)
"""


def start(slurm: Any, log: Path, *script: object, **env: str) -> str:
    """Submit a batch script that writes to `log`; returns the number of its job."""
    code, said = slurm.run(
        "head", "sbatch", "--parsable", f"--output={log}", *script, RUNNER_VENV=slurm.job.venv(), **env
    )
    assert code == 0, said
    return said.strip()


def show(slurm: Any, job_id: str) -> list[dict[str, str]]:
    """What Slurm knows of a job, or of each task of an array."""
    for _ in range(30):  # a busy controller answers with an error
        code, shown = slurm.run("head", "scontrol", "show", "job", "--oneliner", job_id)
        if code == 0:
            break
        time.sleep(1)
    assert code == 0, shown
    return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in shown.splitlines()]


def await_that(slurm: Any, job_id: str, what: Callable[[], bool], log: Path, timeout: float = 150) -> None:
    """Wait until something about a job is true; when time is out, cancel the job and fail."""
    give_up = time.monotonic() + timeout
    while not what():
        if time.monotonic() > give_up:
            state = [task["JobState"] for task in show(slurm, job_id)]
            slurm.run("head", "scancel", job_id)
            raise AssertionError(f"{state} after {timeout} s: {log.read_text() if log.exists() else ''}")
        time.sleep(0.2)


def await_end(slurm: Any, job_id: str, log: Path, timeout: float = 150) -> tuple[str, str, str]:
    """Wait for the end of a job.

    Returns:
        (state, exit code as Slurm writes it, what the job wrote); of an array, state and code of one task.
    """
    on_its_way = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED")
    await_that(slurm, job_id, lambda: all(t["JobState"] not in on_its_way for t in show(slurm, job_id)), log, timeout)
    task = show(slurm, job_id)[0]
    return task["JobState"], task["ExitCode"], log.read_text() if log.exists() else ""


def submit(slurm: Any, tmp_path: Path, *script: object, timeout: float = 150, **env: str) -> tuple[str, str, str]:
    """Submit a batch script and wait for the end of its job; see `await_end`."""
    log = tmp_path / "job.log"
    return await_end(slurm, start(slurm, log, *script, **env), log, timeout)
