"""`runner.predict()` in a notebook, with a real kernel: one rank, and a display below the cell."""

import json
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from launch import PROGRAMS, run

FIRST = """
import os, signal, threading, time
import numpy as np
import torch
import runner
from reference import plain_loop

class Model(torch.nn.Module):
    def __init__(self, seconds=0.0, bad=None):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.seconds, self.bad = torch.nn.Linear(8, 3), seconds, bad

    def forward(self, rows):
        time.sleep(self.seconds)
        if self.bad is not None and bool((rows[:, 0] == self.bad).any()):
            raise ValueError("cannot digest this row")
        return self.layer(rows)

rows = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
rows[350, 0] = 9.0
"""
JOB = """
before = time.time()
report = runner.predict(model=Model, model_args={"seconds": 0.05}, data=rows, batch_size=8, threads=1)
print(report.status, np.array_equal(report.predictions, plain_loop(Model(), rows, 8)), report.epoch >= before)
"""
AGAIN = """
report = runner.predict(model=Model, data=rows, time_limit=6)  # the kernel is older
print(report.status)
"""
INTERRUPTED = """
threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()  # as the button of a notebook does
report = runner.predict(model=Model, model_args={"seconds": 0.1}, data=rows, batch_size=1, chunk_size=1)
print(report.status, report.stopped_by)
"""
IN_A_THREAD = """
def job():
    try:
        runner.predict(model=Model, model_args={"bad": 9.0}, data=rows, batch_size=8)
    except runner.RunnerError as error:
        print(error)

thread = threading.Thread(target=job)
thread.start()
thread.join()
print("the kernel lives")
"""
HANGS = """
try:
    runner.predict(model=Model, model_args={"seconds": 100.0}, data=rows, batch_size=8, stall_timeout=2)
except runner.RunnerError as error:
    print(error)
"""


@pytest.mark.timeout(200)
def test_a_notebook(tmp_path: Path) -> None:
    cells = [FIRST, JOB, AGAIN, INTERRUPTED, IN_A_THREAD, HANGS]
    outcome = run([sys.executable, PROGRAMS / "run_notebook.py", *cells], tmp_path)
    assert outcome.code == 0, outcome.output
    told: dict[tuple[int, str], list[str]] = defaultdict(list)
    for line in outcome.output.splitlines():
        index, kind, text = json.loads(line)  # the kernel has said nothing of its own
        told[index, kind].append(text)
    (message,) = told.pop((5, "stderr"))
    assert message.startswith("runner: error: no progress for"), message
    assert told[5, "stdout"] == ["interrupted at once. What is recorded is kept; the same command resumes from there\n"]
    assert not [texts for (_, kind), texts in told.items() if kind == "stderr"]
    assert "".join(told[1, "stdout"]) == "whole True True\n"
    assert "".join(told[2, "stdout"]) == "whole\n"
    assert "".join(told[3, "stdout"]) == "stopped a signal\n"
    assert "the model failed on row 350: ValueError: cannot digest this row" in "".join(told[4, "stdout"])
    assert "".join(told[4, "stdout"]).endswith("the kernel lives\n")

    assert told[1, "outputs"] == [["display_data", "stream"]]  # one display, updated in place
    first, *later = [*told[1, "display_data"], *told[1, "update_display_data"]]
    assert later
    assert "runner: 400 rows on 1 rank" in first
    assert "100 %" not in first
    assert "100 %" in later[-1]
    assert "400 of 400 rows" in later[-1]
    assert "100 %" in told[2, "display_data"][-1]  # a quick job shows its end
