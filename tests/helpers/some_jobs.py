"""Outputs of real jobs, for the tests of what is shown of them."""

import json
import signal
import time
from pathlib import Path

import numpy as np
from launch import finish, horovodrun, mpirun, predict_command, start

from runner.reports.pages import make_page

NUM_ROWS = 1200
EVIL = "</script><script>throw 1</script><img src=http://e.invalid/x>&\u2028"  # what a model says of a row
_JOB = ["--data", "d.npy", "--batch-size", "10", "--chunk-size", "50"]


def make_jobs(folder: Path) -> None:
    """Of 1, 2 and 8 ranks, one killed and resumed, with a page while it ran, one that fails, one with a bad row."""
    rows = np.arange(NUM_ROWS, dtype=np.float32).repeat(8).reshape(-1, 8)
    np.save(folder / "d.npy", rows)
    (folder / "evil.py").write_text(f"import zoo\nclass Evil(zoo.FailsAtRow):\n    def forward(self, rows):\n        "
                                    f"if (rows[:, 0] == 999).any(): raise ValueError({EVIL!r})\n        "
                                    f"return rows\n")  # fmt: skip
    killed = start(predict_command(*_JOB, *_slow(0.1), "--output", "resumed.npy", launcher=mpirun(2)), folder)
    ledger = folder / "resumed.npy.run/ledger.jsonl"
    give_up = time.monotonic() + 60
    while (
        killed.poll() is None
        and time.monotonic() < give_up
        and not (ledger.exists() and ledger.read_text().count('"chunk"') > 3)
    ):
        time.sleep(0.02)
    try:
        (folder / "running.html").write_text(make_page(folder / "resumed.npy"))
    finally:
        killed.send_signal(signal.SIGKILL)
        finish(killed, 30)
    jobs = (
        ("eight.npy", mpirun(8), _slow(0.01)),
        ("one.npy", [], _slow(0.01)),
        ("two.npy", mpirun(2), _slow(0.01)),
        ("resumed.npy", horovodrun(2), _slow(0.1)),
        ("failed.npy", mpirun(2), ["--model", "evil:Evil", "--model-args", '{"value": 0}']),
        ("bad.npy", [], ["--model", "evil:Evil", "--model-args", '{"value": 0}', "--on-error", "quarantine"]),
    )
    commands = [predict_command(*_JOB, *options, "--output", output, launcher=by) for output, by, options in jobs]
    started = [start(command, folder) for command in commands]
    for (output, *_), process in zip(jobs, started, strict=True):
        outcome = finish(process, 120)
        assert (outcome.code == 0) == (output != "failed.npy"), outcome.output


def _slow(seconds: float) -> list[str]:
    arguments = {"value": -1.0, "flag": "none", "seconds": seconds}
    return ["--model", "zoo:DiesOnce", "--model-args", json.dumps(arguments)]
