"""`python -m runner plan`: what it says is what a job then does, and it leaves nothing behind."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from launch import LAUNCHERS, Outcome, environment, predict_command, predict_here, run
from plan_text import fact, number, seconds_in
from reference import random_rows

from runner.cli.main import main
from runner.core.text import rate

# takes a known time, however busy the machine is: 13 batches of 50 ms
SLEEPS = """
import time
from torch import nn

class Sleeps(nn.Module):
    def forward(self, rows):
        time.sleep(0.05 if len(rows) > 1 else 0)
        return rows[:, :3]
"""
NUM_ROWS, BATCH_SIZE = 97, 8


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    np.save(tmp_path / "d.npy", random_rows(NUM_ROWS, 8))
    (tmp_path / "sleeps.py").write_text(SLEEPS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(capsys: pytest.CaptureFixture[str], *options: object, code: int = 0) -> str:
    """What it says in this process."""
    words = ["--model", "zoo:mlp", "--data", "d.npy", "--output", "p.npy", "--batch-size", BATCH_SIZE, "--threads", 1]
    found = main(["plan", *map(str, words), *map(str, options)])
    said = capsys.readouterr()
    assert found == code, said.err
    return said.out if code == 0 else said.err


def contents(folder: Path) -> dict[str, float]:
    """All files but what Python keeps of modules, and when they were written."""
    return {str(path): path.stat().st_mtime for path in folder.rglob("*") if "__pycache__" not in str(path)}


@pytest.mark.parametrize(
    ("output", "options"),
    [
        ("p.npy", ["--schedule", "static"]),
        ("p.parquet", ["--chunk-size", "16", "--collect", "alltoall"]),
        ("shards.npy", ["--collect", "shards"]),
    ],
)
def test_a_job_does_what_was_planned(
    output: str, options: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = ["--model", "sleeps:Sleeps", "--data", "d.npy", "--output", output, "--batch-size", str(BATCH_SIZE), *options]
    before = contents(folder)
    told = plan(capsys, *job, "--ranks", 2, "--ranks-per-node", 2)
    assert contents(folder) == before
    outcome = run(predict_command(*job, launcher=LAUNCHERS["mpirun-2"]), folder)
    assert outcome.code == 0, outcome.output
    report = json.loads((folder / f"{output}.run/report.json").read_text())
    commits = [line for line in (folder / f"{output}.run/ledger.jsonl").read_text().splitlines() if '"inputs"' in line]

    assert number(fact(told, "data")) == report["num_rows"] == NUM_ROWS
    assert fact(told, "batches") == f"{-(-NUM_ROWS // BATCH_SIZE)} of {BATCH_SIZE} rows"
    assert number(fact(told, "chunks")) == len(commits)
    chunks = sorted(rank["chunks"] for rank in report["ranks"])
    assert f" {chunks[0]} to {chunks[1]} chunks each" in fact(told, "ranks")
    assert number(fact(told, "output")) == NUM_ROWS * 3 * 4
    if output == "p.npy":
        assert np.load(folder / output).nbytes == NUM_ROWS * 3 * 4
    seconds = seconds_in(fact(told, "time").partition("start-up, ")[2].partition(" of chunks")[0])
    assert seconds >= 0.3  # six batches of a rank; a busy machine can only take longer


def test_a_large_file_is_not_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """100 GB with nothing in them; to be computed by thousands of ranks."""
    num_rows = 100_000_000_000 // 32
    header = np.lib.format.open_memmap(folder / "large.npy", "w+", np.float32, (1, 8)).offset
    with (folder / "large.npy").open("r+b") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (num_rows, 8)})
        assert file.tell() == header
        file.truncate(header + num_rows * 32)
    before = read_bytes()
    told = plan(capsys, "--data", "large.npy", "--ranks", 1000, "--postprocess", "argmax", "--batch-size", 8192)
    assert number(fact(told, "data")) == num_rows
    assert number(fact(told, "output")) == num_rows * 8
    assert read_bytes() - before < 1_000_000_000
    assert "1,000 ranks; use --collect alltoall" in told


def read_bytes() -> int:
    """What this process has read from files so far."""
    return int(re.search(r"rchar: (\d+)", Path("/proc/self/io").read_text())[1])


def test_an_unfinished_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = ["--model", "zoo:mlp", "--data", "d.npy", "--output", "p.npy", "--batch-size", str(BATCH_SIZE)]
    assert predict_here(*job, folder=folder).code == 0
    assert "--output p.npy exists already" in plan(capsys, code=73)
    assert fact(plan(capsys, "--overwrite"), "ranks").endswith("13 chunks each")

    (folder / "p.npy").rename(folder / "p.npy.partial")  # as a job leaves it that is killed after five chunks
    (folder / "p.npy.run/report.json").unlink()
    ledger = folder / "p.npy.run/ledger.jsonl"
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[:7]))
    before = contents(folder)
    told = plan(capsys, "--ranks", 2)
    assert fact(told, "resumed").startswith("5 chunks, 40 rows of an unfinished run")
    assert fact(told, "ranks").endswith(" 4 chunks each")
    for other in (["--batch-size", 4], ["--model", "zoo:Counting"], ["--model-args", '{"seed": 1}']):
        assert "p.npy.run holds an unfinished run of another job" in plan(capsys, *other, code=65)
    assert "resumed" not in plan(capsys, "--batch-size", 4, "--fresh")
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--ranks", "0"], 64, "--ranks must be a whole number of 1 or more"),
        (["--memory", "3"], 64, "--memory '3' must be like"),
        (["--report", "nowhere"], 65, "--report nowhere: No such file"),
        (["--report", "sleeps.py"], 65, "is not the report.json of a run"),
        (["--batch-size", "0"], 64, "--batch-size must be"),
        (["--data", "nowhere.npy"], 65, "nowhere.npy: No such file"),
        (["--model", "zoo:nothing"], 65, "zoo:nothing"),
        (["--output", "nowhere/p.npy"], 73, "there is no folder nowhere"),
    ],
)
def test_what_predict_refuses_is_refused(
    options: list[str], code: int, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in plan(capsys, *options, code=code)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ranks", "20"], "13 chunks to compute for 20 ranks: 7 of them have nothing to do; a --batch-size below 8"),
        (["--ranks", "2", "--chunk-size", "40"], "3 chunks do not divide well by 2 ranks. --chunk-size 8 makes more"),
        (["--ranks", "9"], "--collect allgather sends every prediction to all 9 ranks"),
        (["--ranks", "4", "--ranks-per-node", "2", "--collect", "direct"], "--collect direct on 2 nodes is rejected"),
        (["--ranks", "2", "--ranks-per-node", "2", "--memory", "300M"], "the ranks of a node need "),
        (["--ranks", "2", "--threads", "999"], "999 threads are for a node with more CPUs than this host's"),
        (["--time-limit", "1"], "--time-limit 1 s ends before the first chunk"),
    ],
)
def test_what_could_go_wrong(
    options: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calm = plan(capsys, "--ranks", 1)
    assert "! " not in calm
    assert message in plan(capsys, *options).partition("\n! ")[2]


def test_a_job_longer_than_its_limit_and_a_disk_too_small_for_two(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the report of a run that was slow, on rows of which there are none in the file."""
    num_rows = int(shutil.disk_usage(folder).free * 0.7 / 4)
    with (folder / "sparse.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (num_rows, 1)})
        file.truncate(file.tell() + num_rows * 4)
    report = {"world_size": 2, "peak_rss_bytes": [10**8, 10**8], "startup_seconds": 10.0}
    (folder / "report.json").write_text(json.dumps(report | {"rows_per_second": num_rows / 1000}))
    options = ["--data", "sparse.npy", "--model", "torch.nn:Identity", "--batch-size", 8192, "--report", "report.json"]
    told = plan(capsys, *options, "--ranks", 2, "--output", "p.parquet", "--time-limit", 310)
    assert fact(told, "speed") == f"{rate(num_rows / 2000)} of one rank, by report.json"
    assert seconds_in(fact(told, "time").partition(":")[0]) > 1000
    assert re.search(r"--time-limit 310 s is shorter than the job, [\w ]+: it takes about 4 jobs", told), told
    assert "output and spool need " in told
    twice = plan(capsys, *options, "--limit", num_rows // 2, "--output", "p.parquet")
    assert "output and spool need " not in twice


def test_a_job_for_gpus_on_a_node_without(folder: Path) -> None:
    """Its figures but for time, and that, too, by the report of a run that had them."""
    report = {"world_size": 1, "peak_rss_bytes": [10**9], "startup_seconds": 10.0, "rows_per_second": 9.7}
    (folder / "report.json").write_text(json.dumps(report))
    job = ["--model", "zoo:mlp", "--data", "d.npy", "--output", "p.npy", "--device", "cuda"]

    def outcome(*more: str) -> Outcome:
        command = [sys.executable, "-m", "runner", "plan", *job, *more]
        return run(command, folder, env=environment(CUDA_VISIBLE_DEVICES=""))

    alone, with_report = outcome(), outcome("--report", "report.json")
    assert alone.code == with_report.code == 0, alone.output + with_report.output
    assert fact(alone.output, "speed").startswith("cannot be measured: the job is for GPUs, and this node has none.")
    assert "efficiency" not in alone.output
    assert fact(with_report.output, "time") == "20.0 s: 10.0 s start-up, 10.0 s of chunks"


def test_no_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = plan(capsys, "--limit", 0, "--ranks", 3)
    assert fact(told, "speed") == "there are no rows"
    assert number(fact(told, "output")) == 0
