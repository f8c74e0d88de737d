"""`python -m runner explain` tells what has become of a job, whatever that was."""

import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from launch import LAUNCHERS, PATIENCE, Outcome, finish, predict_command, predict_here, recorded_chunks, run, start
from launch import await_chunks as await_so_many

from runner.cli.main import main
from runner.core.shortage import limits_in_words

NUM_ROWS = 3000
JOB = ["--model", "zoo:DiesOnce", "--data", "d.npy", "--output", "p.npy", "--batch-size", "10"]
NEXT = "hvd-runner predict --config p.npy.run/config.toml"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    np.save(tmp_path / "d.npy", np.arange(NUM_ROWS, dtype=np.float32).repeat(8).reshape(-1, 8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def explain(capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    assert main(["explain", "p.npy"]) == code
    said = capsys.readouterr()
    return said.out or said.err


def job(**arguments: object) -> list[str | Path]:
    slowly = {"value": -1.0, "flag": "none", "seconds": 0.1, "slowly": "slowly"}
    return [*JOB, "--model-args", json.dumps(slowly | arguments), "--chunk-size", "50"]


def await_chunks(folder: Path, process: "subprocess.Popen[str]") -> None:
    """Wait until three more are recorded."""
    run_folder = folder / "p.npy.run"
    await_so_many(run_folder, len(recorded_chunks(run_folder)) + 3, process)


@pytest.mark.cold
def test_the_life_of_a_job(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "p.npy does not exist, nor do its records: p.npy.run is missing" in explain(capsys, 65)

    (folder / "slowly").touch()  # which makes it half a minute's work
    process = start(predict_command(*job()), folder)
    await_chunks(folder, process)
    said = explain(capsys)
    assert f"is being written by another job: process {process.pid} on " in said
    assert f" of {NUM_ROWS:,} rows (" in said
    os.killpg(process.pid, signal.SIGKILL)
    finish(process, PATIENCE)
    said = explain(capsys)
    assert "one process) ended without a record of it. Its processes were killed: " in said
    assert f" Memory there: {limits_in_words()}. " in said
    assert NEXT in said

    process = start(predict_command(*job()), folder)
    await_chunks(folder, process)
    process.send_signal(signal.SIGUSR1)
    assert finish(process, PATIENCE).code == 75
    said = explain(capsys)
    assert " stopped on purpose, by a signal." in said
    assert NEXT in said

    # as it says
    (folder / "slowly").unlink()
    outcome = predict_here(*job(seconds=0.0), folder=folder)
    assert outcome.code == 65, "other arguments are another run"
    assert " stopped on purpose, by a signal." in explain(capsys)
    outcome = predict_here("--config", "p.npy.run/config.toml", folder=folder)
    assert outcome.code == 0, outcome.output
    said = explain(capsys)
    assert said.startswith(f"p.npy is complete: {NUM_ROWS:,} rows. It took 3 jobs.\n")
    assert "hvd-runner verify p.npy" in said
    assert not (folder / "p.npy.run/failure.json").exists()


def fail(folder: Path, *options: str) -> Outcome:
    command = predict_command("--data", "d.npy", "--output", "p.npy", *options, launcher=LAUNCHERS["mpirun-2"])
    outcome = run(command, folder)
    assert outcome.code != 0
    return outcome


def test_a_row_that_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fail(folder, "--model", "zoo:FailsAtRow", "--model-args", '{"value": 2999.0}')
    said = explain(capsys)
    assert "2 ranks under mpirun) ended at " in said
    assert " with an error on rank 1 of 2 on " in said
    assert "cannot digest this row" in said
    assert "--on-error quarantine sets bad rows aside" in said
    assert NEXT in said


def test_a_rank_that_hangs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hangs = ["--model", "zoo:HangsAtRow", "--model-args", '{"value": 2999.0, "how": "sleep"}', "--stall-timeout", "8"]
    fail(folder, *hangs)
    said = explain(capsys)
    assert " with an error on rank 1 of 2 on " in said
    assert "no progress for " in said
    assert "exclude that host" in said


@pytest.mark.cold
@pytest.mark.parametrize("name", ["ledger.jsonl", "report.json", "failure.json", "lock"])
@pytest.mark.parametrize("content", ["", "{", "[]", '{"time": "x"}', "\0\0"])
def test_damaged_records(name: str, content: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "p.npy.run").mkdir()
    (folder / "p.npy.run" / name).write_text(content)
    os.utime(folder / "p.npy.run" / name, (1, 1))
    code = main(["explain", "p.npy"])
    said = capsys.readouterr()
    assert code in (0, 65)
    assert said.out + said.err
