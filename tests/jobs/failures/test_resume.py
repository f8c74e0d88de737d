"""A job that dies goes on with the same command, at any number of ranks, and computes only what is missing."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import zoo
from launch import LAUNCHERS, PATIENCE, Outcome, await_chunks, finish, predict_command, predict_here, run, start
from reference import plain_loop, random_rows

NUM_ROWS, BATCH_SIZE, CHUNK_SIZE, MARK = 1797, 32, 64, 1000.0


class Job:
    """A folder with a data set, a model that can be made to die at a row, and the output that must come out."""

    def __init__(self, folder: Path, deadly_row: int) -> None:
        self.folder = folder
        rows = random_rows(NUM_ROWS, 8)
        rows[deadly_row, 0] = MARK
        np.save(folder / "d.npy", rows)
        np.save(folder / "expected.npy", plain_loop(zoo.mlp(), rows, BATCH_SIZE))
        self.model_args = {"value": MARK, "flag": str(folder / "flag")}
        self.options = ["--model", "zoo:DiesOnce", "--model-args", json.dumps(self.model_args), "--data", "d.npy"]
        self.options += ["--output", "p.npy", "--batch-size", str(BATCH_SIZE), "--chunk-size", str(CHUNK_SIZE)]

    def run(self, launcher: str, *more: str) -> Outcome:
        return run(predict_command(*self.options, *more, launcher=LAUNCHERS[launcher]), self.folder)

    def die(self, launcher: str) -> None:
        (self.folder / "flag").touch()
        outcome = self.run(launcher)
        assert outcome.code != 0, outcome.output
        assert not (self.folder / "flag").exists(), outcome.output
        assert not (self.folder / "p.npy").exists()

    @property
    def commits(self) -> list[dict[str, int]]:
        records = map(json.loads, (self.folder / "p.npy.run/ledger.jsonl").read_text().splitlines()[1:])
        return [record for record in records if "chunk" in record]  # the others are of jobs

    @property
    def report(self) -> dict[str, object]:
        report: dict[str, object] = json.loads((self.folder / "p.npy.run/report.json").read_text())
        return report

    def files(self) -> dict[str, bytes]:
        """All that an unfinished run has left, but the lock of its dead job."""
        left = [self.folder / "p.npy.partial", *(self.folder / "p.npy.run").iterdir()]
        return {path.name: path.read_bytes() for path in left if path.name != "lock"}

    def assert_whole(self) -> None:
        assert (self.folder / "p.npy").read_bytes() == (self.folder / "expected.npy").read_bytes()
        assert not (self.folder / "p.npy.partial").exists()


@pytest.mark.parametrize(
    ("deadly_row", "dies_under", "resumes_under"),
    [
        (NUM_ROWS - 1, "mpirun-3", "mpirun-2"),  # the last rank
        (NUM_ROWS // 2 - 1, "mpirun-2", "alone"),  # rank 0
        (NUM_ROWS - 1, "horovodrun-2", "mpirun-5"),
        (NUM_ROWS - 100, "alone", "horovodrun-2"),
    ],
)
def test_killed_rank_then_resume(deadly_row: int, dies_under: str, resumes_under: str, tmp_path: Path) -> None:
    job = Job(tmp_path, deadly_row)
    job.die(dies_under)
    committed = [commit["chunk"] for commit in job.commits]
    assert 0 < len(committed) < -(-NUM_ROWS // CHUNK_SIZE)

    outcome = job.run(resumes_under)
    assert outcome.code == 0, outcome.output
    job.assert_whole()
    chunks = [commit["chunk"] for commit in job.commits]
    assert chunks[: len(committed)] == committed
    assert sorted(chunks) == list(range(-(-NUM_ROWS // CHUNK_SIZE)))  # none computed twice
    resumed_rows = sum(commit["stop"] - commit["start"] for commit in job.commits[: len(committed)])
    assert (job.report["resumed_rows"], job.report["computed_rows"]) == (resumed_rows, NUM_ROWS - resumed_rows)
    assert job.report["status"] == "whole"


def test_torn_ledger_and_damaged_rows_are_computed_again(tmp_path: Path) -> None:
    job = Job(tmp_path, NUM_ROWS - 1)
    job.die("alone")
    before = len(job.commits)
    partial, ledger = tmp_path / "p.npy.partial", tmp_path / "p.npy.run/ledger.jsonl"
    with partial.open("r+b") as file:  # a byte of the first chunk, which is committed
        file.seek(200)
        flipped = bytes([file.read(1)[0] ^ 1])
        file.seek(200)
        file.write(flipped)
    ledger.write_bytes(ledger.read_bytes()[:-7])  # as if it had died while it wrote the last line

    outcome = predict_here(*job.options, folder=tmp_path)
    assert outcome.code == 0, outcome.output
    job.assert_whole()
    assert job.report["resumed_rows"] == (before - 2) * CHUNK_SIZE


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        (["--batch-size", "16"], "batch_size"),
        (["--chunk-size", "128"], "chunk_size"),
        (["--postprocess", "argmax"], "postprocess"),
        (["--model", "zoo:mlp", "--model-args", "{}"], "model "),
        (["--data", "other.npy"], "data"),
        (["--weights", "other.pt"], "weights"),
    ],
)
def test_ledger_of_another_run_is_refused(changed: list[str], field: str, tmp_path: Path) -> None:
    import torch

    job = Job(tmp_path, NUM_ROWS - 1)
    np.save(tmp_path / "other.npy", random_rows(NUM_ROWS, 8, seed=9))
    torch.save(
        zoo.DiesOnce(**{**job.model_args, "value": 1.0}).state_dict() | {"inner.0.bias": torch.ones(16)},
        tmp_path / "other.pt",
    )
    job.die("alone")
    before = job.files()

    outcome = predict_here(*job.options, *changed, folder=tmp_path)
    assert outcome.code == 65
    assert "another job" in outcome.output
    assert f" {field}" in outcome.output
    assert job.files() == before

    assert predict_here(*job.options, *changed, "--fresh", folder=tmp_path).code == 0
    assert job.report["resumed_rows"] == 0


def test_a_run_of_an_option_that_was_removed_is_not_resumed(tmp_path: Path) -> None:
    job = Job(tmp_path, NUM_ROWS - 1)
    job.die("alone")
    ledger = tmp_path / "p.npy.run/ledger.jsonl"
    first, rest = ledger.read_text().split("\n", 1)
    ledger.write_text(json.dumps(json.loads(first) | {"quantize": "int8"}) + "\n" + rest)
    outcome = predict_here(*job.options, folder=tmp_path)
    assert outcome.code == 65
    assert "another job: it differs in quantize (was 'int8', is None)" in outcome.output


def change_one_row(path: Path, row: int) -> None:
    rows = np.load(path, mmap_mode="r+")
    rows[row, 3] += 1
    rows.flush()


def test_data_that_changes_between_two_jobs(tmp_path: Path) -> None:
    """One number of a file that is too large to be digested whole."""
    rows = np.zeros((900_000, 32), np.float32)  # 115 MB
    rows[:, 0] = np.arange(len(rows))
    np.save(tmp_path / "d.npy", rows)
    command = ["--model", "zoo:DiesOnce", "--data", "d.npy", "--output", "p.npy", "--batch-size", "9000"]
    command += ["--preprocess", "zoo:first_eight"]
    # it dies when the row that will be changed is among those that are recorded, at 9,000 a chunk
    command += ["--model-args", json.dumps({"value": 450_000.0, "flag": "flag", "seconds": 0.02, "commits": 20})]
    (tmp_path / "flag").touch()
    assert run(predict_command(*command), tmp_path).code != 0
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "p.npy.run", kept)
    records = [json.loads(line) for line in (kept / "ledger.jsonl").read_text().splitlines()]
    done = max(record["stop"] for record in records if "chunk" in record)
    assert 0 < done < 451_000

    change_one_row(tmp_path / "d.npy", 122_000)
    outcome = run(predict_command(*command, launcher=LAUNCHERS["mpirun-3"]), tmp_path)
    assert outcome.code == 65, outcome.output
    assert "the data is not what the predictions were computed from: rows 117000 to 125999 differ" in outcome.output
    assert outcome.output.count("runner: error") == 1

    np.save(tmp_path / "d.npy", rows)  # another file, with the same rows as before
    change_one_row(tmp_path / "d.npy", 602_000)  # nobody has read it yet
    outcome = predict_here(*command, folder=tmp_path)
    assert outcome.code == 0, outcome.output
    report = json.loads((tmp_path / "p.npy.run/report.json").read_text())
    assert report["resumed_rows"] == done
    expected = plain_loop(zoo.mlp(), np.load(tmp_path / "d.npy")[:, :8], 9000)
    assert np.load(tmp_path / "p.npy").tobytes() == expected.tobytes()


def test_data_that_is_written_to_while_it_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", random_rows(1797, 8))
    slowly = json.dumps({"value": 1e9, "flag": "flag", "seconds": 0.5, "slowly": "slowly"})
    job = ["--model", "zoo:DiesOnce", "--model-args", slowly, "--data", "d.npy", "--output", "p.npy"]
    (tmp_path / "slowly").touch()
    process = start(predict_command(*job, launcher=LAUNCHERS["mpirun-2"]), tmp_path)
    await_chunks(tmp_path / "p.npy.run", 6, process)
    os.utime(tmp_path / "d.npy")
    (tmp_path / "slowly").unlink()
    outcome = finish(process, PATIENCE)
    assert outcome.code == 65, outcome.output
    assert "d.npy was modified while this job read it" in outcome.output
    assert not (tmp_path / "p.npy").exists()
    outcome = predict_here(*job, folder=tmp_path)  # the rows are what they were
    assert outcome.code == 0, outcome.output
    assert json.loads((tmp_path / "p.npy.run/report.json").read_text())["computed_rows"] == 0
