"""Nothing hangs: whatever a rank stops at, the job ends in time, says who and what, and leaves no process behind."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from launch import LAUNCHERS, PATIENCE, Outcome, finish, predict_command, start

NUM_ROWS, STALL_SECONDS = 1797, 8  # for that long, too, ranks that have started wait for those that have not
SOON = 20.0  # seconds, for what takes one to five on a machine that is not busy
OPTIONS = ["--data", "d.npy", "--output", "p.npy", "--stall-timeout", str(STALL_SECONDS)]
LAST, FIRST = NUM_ROWS - 1.0, 100.0  # a row of the last rank, and one of rank 0


def leftovers(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == folder:
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def hang(folder: Path, launcher: str, *options: str) -> tuple[Outcome, float]:
    """Run a job that hangs; returns how it ended, and how long it took from the start of computing."""
    np.save(folder / "d.npy", np.arange(NUM_ROWS, dtype=np.float32).repeat(4).reshape(-1, 4))
    process = start(predict_command(*OPTIONS, *options, launcher=LAUNCHERS[launcher]), folder)
    while process.poll() is None and not (folder / "p.npy.partial").exists():
        time.sleep(0.01)
    began = time.monotonic()
    outcome = finish(process, PATIENCE)
    seconds = time.monotonic() - began
    give_up = time.monotonic() + SOON
    while leftovers(folder) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert leftovers(folder) == []
    assert not (folder / "p.npy").exists()
    return outcome, seconds


@pytest.mark.parametrize(
    ("launcher", "how", "row"),
    [
        *(("mpirun-3", how, row) for how in ("sleep", "stop") for row in (LAST, FIRST)),
        ("horovodrun-2", "sleep", LAST),
        ("horovodrun-2", "stop", FIRST),
    ],
)
def test_a_rank_that_hangs_is_named(launcher: str, how: str, row: float, tmp_path: Path) -> None:
    model = ["--model", "zoo:HangsAtRow", "--model-args", json.dumps({"value": row, "how": how})]
    outcome, seconds = hang(tmp_path, launcher, *model)
    assert outcome.code != 0
    assert seconds < STALL_SECONDS + SOON
    assert outcome.output.count("runner: error") == 1, outcome.output
    size = int(launcher[-1])
    culprit = 0 if row == FIRST else size - 1
    if how == "sleep":
        batch = int(row) // 32 * 32
        assert f"[rank {culprit} of {size} on " in outcome.output
        assert f"while computing rows {batch} to {min(batch + 32, NUM_ROWS) - 1}" in outcome.output
    else:
        assert f"rank {culprit} of {size} has been silent for " in outcome.output
        assert ", and was last " in outcome.output


@pytest.mark.parametrize("launcher", ["alone", "mpirun-2"])
def test_a_reader_that_blocks_is_named(launcher: str, tmp_path: Path) -> None:
    outcome, seconds = hang(tmp_path, launcher, "--model", "zoo:Identity", "--preprocess", "zoo:blocks")
    assert outcome.code == 70, outcome.output
    assert seconds < STALL_SECONDS + SOON
    assert outcome.output.count("runner: error") == 1
    assert "while reading what follows row 1024" in outcome.output


@pytest.mark.parametrize(("launcher", "row"), [("mpirun-3", LAST), ("mpirun-3", FIRST), ("horovodrun-2", LAST)])
def test_a_rank_that_exits_ends_the_job(launcher: str, row: float, tmp_path: Path) -> None:
    model = ["--model", "zoo:HangsAtRow", "--model-args", json.dumps({"value": row, "how": "exit"})]
    _, seconds = hang(tmp_path, launcher, *model)
    assert seconds < SOON


def test_waiting_for_a_slow_rank_is_no_hang(tmp_path: Path) -> None:
    """Rank 1 has work in each batch and rank 0 none: who waits, even for longer than the limit, is not to blame."""
    np.save(tmp_path / "d.npy", np.arange(20, dtype=np.float32).reshape(-1, 1))
    (tmp_path / "slow_end.py").write_text(
        "import time, torch\n"
        "class Model(torch.nn.Module):\n"
        "    def forward(self, rows):\n"
        "        time.sleep(1.0 if rows[0, 0] >= 10 else 0.0)\n"
        "        return rows\n"
    )
    options = ["--model", "slow_end:Model", "--data", "d.npy", "--output", "p.npy", "--batch-size", "1"]
    command = predict_command(*options, "--stall-timeout", "6", launcher=LAUNCHERS["mpirun-2"])
    outcome = finish(start(command, tmp_path), PATIENCE)
    assert outcome.code == 0, outcome.output
    assert (tmp_path / "p.npy").read_bytes() == (tmp_path / "d.npy").read_bytes()
