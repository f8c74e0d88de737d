"""`python -m runner submit` to a real Slurm of two nodes."""

import sys
import time
from pathlib import Path

import numpy as np

# computes its batches until it is told to stop: for longer than a test may take
SLOW = """
import time
from torch import nn

class Slow(nn.Module):
    def forward(self, rows):
        time.sleep(0.2 if len(rows) == 4 else 0)
        return rows
"""


def submit(slurm, folder: Path, *options: object) -> str:
    """Submit from a folder; returns the number of the job."""
    here = ["env", "-C", folder, sys.executable, "-m", "runner", "submit", "--launcher", "slurm"]
    code, said = slurm.run("head", *here, *options)
    assert code == 0, said
    assert said.startswith("Submitted batch job ")
    return said.split()[-1]


def wait_for(slurm, job_id: str, wanted: dict[str, str], log: Path, timeout: float = 150) -> None:
    """Until Slurm says so of the job."""
    give_up = time.monotonic() + timeout
    while True:
        _, shown = slurm.run("head", "scontrol", "show", "job", "--oneliner", job_id)
        fields = dict(word.split("=", 1) for word in shown.split() if "=" in word)
        if wanted.items() <= fields.items():
            return
        if time.monotonic() > give_up or fields.get("JobState") in ("FAILED", "TIMEOUT", "COMPLETED"):
            slurm.run("head", "scancel", job_id)
            raise AssertionError(f"not {wanted} but {shown}\n{log.read_text() if log.exists() else ''}")
        time.sleep(0.2)


def test_a_job_is_submitted(slurm, job, tmp_path):
    """From a folder, with data and an output, whose names a shell would spoil."""
    folder = tmp_path / 'my "job" of $USER'
    folder.mkdir()
    (folder / "tiny_model.py").write_text((job.folder / "tiny_model.py").read_text())
    (folder / "it's.npy").write_bytes((job.folder / "rows.npy").read_bytes())
    options = ["--nodes", 2, "--ranks-per-node", 2, "--time", "0:02:00", "--directive=--comment='two words'"]
    job_id = submit(slurm, folder, *options, *job.arguments(Path("p q.npy"), data="it's.npy"))
    wait_for(slurm, job_id, {"JobState": "COMPLETED"}, folder / f"predict-{job_id}.log")
    assert (folder / "p q.npy").read_bytes() == job.expected
    assert job.hosts(folder / "p q.npy") == ["node1", "node1", "node2", "node2"]


def test_a_job_that_is_told_of_its_end_goes_back_into_the_queue(slurm, job, tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    np.save(tmp_path / "rows.npy", np.zeros((4000, 8), np.float32))
    log, ledger = tmp_path / "predict.log", tmp_path / "p.npy.run/ledger.jsonl"
    options = ["--nodes", 2, "--time", "0:10:00", "--requeue", f"--directive=--output={log}"]
    arguments = ["--model", "slow:Slow", "--data", "rows.npy", "--output", "p.npy", "--batch-size", 4]
    job_id = submit(slurm, tmp_path, *options, *arguments)
    give_up = time.monotonic() + 100
    while not (ledger.exists() and '{"chunk": ' in ledger.read_text()):
        assert time.monotonic() < give_up, log.read_text() if log.exists() else "not started"
        time.sleep(0.1)
    assert slurm.run("head", "scancel", "--batch", "--signal=USR1", job_id)[0] == 0  # as Slurm does by --signal
    wait_for(slurm, job_id, {"JobState": "PENDING", "Restarts": "1"}, log)
    assert "stopped by a signal" in log.read_text()
    slurm.run("head", "scancel", job_id)
