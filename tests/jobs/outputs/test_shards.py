"""An output that is a folder, each file of it written by one rank."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import zoo
from launch import LAUNCHERS, Outcome, predict_command, predict_here, run, run_here
from reference import plain_loop, random_rows

NUM_ROWS = 4099  # with one row a chunk: four chunks a file, three in the last
MARK = 1000.0
PREDICT = ["--data", "d.npy", "--output", "p.npy", "--collect", "shards", "--batch-size", "1", "--chunk-size", "1"]


def predict(folder: Path, *options: str, launcher: str = "here") -> Outcome:
    if launcher == "here":
        return predict_here(*PREDICT, *options, folder=folder)
    return run(predict_command(*PREDICT, *options, launcher=LAUNCHERS[launcher]), folder)


def rows_of(folder: Path) -> np.ndarray:
    """As a user reads them: by the index, with NumPy."""
    index = json.loads((folder / "index.json").read_text())
    parts = [np.load(folder / file["name"]) for file in index["files"]]
    assert [len(part) for part in parts] == [file["stop"] - file["start"] for file in index["files"]]
    assert sorted(path.name for path in folder.iterdir()) == [
        "index.json",
        *(file["name"] for file in index["files"]),
    ]
    return np.concatenate([np.empty((0, *index["row_shape"]), index["dtype"]), *parts])


@pytest.mark.parametrize(
    ("num_rows", "launcher", "options"),
    [
        (1797, "here", []),
        (0, "mpirun-3", []),
        (1797, "mpirun-3", []),
        (3, "horovodrun-2", ["--schedule", "dynamic"]),
        (1797, "mpirun-5", ["--comm", "mpi", "--schedule", "dynamic"]),
    ],
)
def test_rows_equal_a_plain_loop(num_rows: int, launcher: str, options: list[str], tmp_path: Path) -> None:
    rows = random_rows(num_rows, 8)
    np.save(tmp_path / "d.npy", rows)
    outcome = predict(
        tmp_path, "--model", "zoo:mlp", "--batch-size", "8", "--chunk-size", "16", *options, launcher=launcher
    )
    assert outcome.code == 0, outcome.output
    expected = plain_loop(zoo.mlp(), rows, 8) if num_rows else np.empty((0, 10), np.float32)
    assert rows_of(tmp_path / "p.npy").tobytes() == expected.tobytes()
    assert run_here("verify", "p.npy", folder=tmp_path).code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.npy", "p.npy", "p.npy.run"]


class Job:
    """A folder with a data set and a model that dies at a row."""

    def __init__(self, folder: Path, deadly_row: int) -> None:
        self.folder = folder
        self.rows = random_rows(NUM_ROWS, 8)
        self.rows[deadly_row, 0] = MARK
        np.save(folder / "d.npy", self.rows)
        arguments = {"value": MARK, "flag": str(folder / "flag"), "seconds": 0.0005}
        self.options = ["--model", "zoo:DiesOnce", "--model-args", json.dumps(arguments)]

    def die(self, launcher: str, *options: str) -> None:
        (self.folder / "flag").touch()
        assert predict(self.folder, *self.options, *options, launcher=launcher).code != 0
        assert not (self.folder / "flag").exists()
        assert not (self.folder / "p.npy").exists()

    def resume(self, launcher: str, *options: str) -> None:
        outcome = predict(self.folder, *self.options, *options, launcher=launcher)
        assert outcome.code == 0, outcome.output

    @property
    def commits(self) -> list[dict[str, int]]:
        """Each with the number of its job."""
        commits, job = [], -1
        for record in map(json.loads, (self.folder / "p.npy.run/ledger.jsonl").read_text().splitlines()[1:]):
            job += "job" in record
            if "chunk" in record:
                commits.append({**record, "job": job})
        return commits

    def assert_whole(self) -> None:
        assert rows_of(self.folder / "p.npy").tobytes() == plain_loop(zoo.mlp(), self.rows, 1).tobytes()


@pytest.mark.parametrize(
    ("dies_under", "resumes_under", "schedule"),
    [("mpirun-3", "horovodrun-2", "static"), ("alone", "mpirun-3", "dynamic")],
)
def test_killed_rank_then_resume(dies_under: str, resumes_under: str, schedule: str, tmp_path: Path) -> None:
    job = Job(tmp_path, NUM_ROWS // 2)
    job.die(dies_under, "--schedule", schedule)
    before = len(job.commits)
    assert 0 < before < NUM_ROWS
    job.resume(resumes_under, "--schedule", schedule)
    job.assert_whole()
    assert sorted(commit["chunk"] for commit in job.commits) == list(range(NUM_ROWS))  # none computed twice
    writers = defaultdict(set)
    for commit in job.commits:
        writers[commit["job"], commit["chunk"] // 4].add(commit["rank"])
    assert all(len(ranks) == 1 for ranks in writers.values())
    assert {commit["rank"] for commit in job.commits if commit["job"] == 1} == set(range(int(resumes_under[-1])))


def test_what_is_lost_or_damaged_is_computed_again(tmp_path: Path) -> None:
    job = Job(tmp_path, NUM_ROWS - 1)
    job.die("alone")
    partial = tmp_path / "p.npy.partial"
    (partial / "part-000003.npy").unlink()
    with (partial / "part-000005.npy").open("r+b") as file:
        file.truncate(140)
    with (partial / "part-000007.npy").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x99")
    job.resume("mpirun-2")
    job.assert_whole()
    again = [commit["chunk"] for commit in job.commits if commit["job"] == 1 and commit["chunk"] < 40]
    assert again == [12, 13, 14, 15, 20, 21, 22, 23, 31]


def test_overwrite_replaces_the_folder_and_only_one_of_the_runner(tmp_path: Path) -> None:
    rows = random_rows(50, 8)
    np.save(tmp_path / "d.npy", rows)
    (tmp_path / "p.npy").mkdir()
    (tmp_path / "p.npy/thesis.tex").touch()
    outcome = predict(tmp_path, "--model", "zoo:mlp", "--overwrite")
    assert outcome.code == 73, outcome.output
    assert "is a folder that the runner has not written: it has no index.json" in outcome.output
    (tmp_path / "p.npy/thesis.tex").unlink()
    (tmp_path / "p.npy").rmdir()

    assert predict(tmp_path, "--model", "zoo:mlp").code == 0
    outcome = predict(tmp_path, "--model", "zoo:mlp", "--model-args", '{"seed": 5}')
    assert outcome.code == 73, outcome.output
    assert "exists already" in outcome.output
    outcome = predict(tmp_path, "--model", "zoo:mlp", "--model-args", '{"seed": 5}', "--overwrite", launcher="mpirun-2")
    assert outcome.code == 0, outcome.output
    assert rows_of(tmp_path / "p.npy").tobytes() == plain_loop(zoo.mlp(seed=5), rows, 1).tobytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.npy", "p.npy", "p.npy.run"]

    outcome = predict(tmp_path, "--model", "zoo:mlp", "--collect", "allgather", "--overwrite")
    assert (outcome.code, "p.npy is a folder" in outcome.output) == (73, True), outcome.output
    assert predict(tmp_path, "--model", "zoo:mlp", "--collect", "allgather", "--output", "q.npy").code == 0
    outcome = predict(tmp_path, "--model", "zoo:mlp", "--output", "q.npy", "--overwrite")
    assert (outcome.code, "q.npy is a file" in outcome.output) == (73, True), outcome.output


def test_another_kind_of_output_is_another_run(tmp_path: Path) -> None:
    job = Job(tmp_path, NUM_ROWS - 1)
    job.die("alone")
    outcome = predict(tmp_path, *job.options, "--collect", "direct")
    assert outcome.code == 65, outcome.output
    assert "it differs in output (was 'folder', is 'file')" in outcome.output
    outcome = predict(tmp_path, *job.options, "--collect", "direct", "--fresh")
    assert outcome.code == 0, outcome.output
    assert np.load(tmp_path / "p.npy").tobytes() == plain_loop(zoo.mlp(), job.rows, 1).tobytes()


def test_a_folder_is_data_for_the_next_job(tmp_path: Path) -> None:
    rows = random_rows(1797, 8)
    np.save(tmp_path / "d.npy", rows)
    assert predict(tmp_path, "--model", "zoo:Identity", "--chunk-size", "7").code == 0
    chain = ["--model", "zoo:mlp", "--data", "p.npy", "--output", "q.npy", "--collect", "allgather"]
    chain += ["--batch-size", "32", "--chunk-size", "64"]
    outcome = predict(tmp_path, *chain, launcher="mpirun-2")
    assert outcome.code == 0, outcome.output
    assert np.load(tmp_path / "q.npy").tobytes() == plain_loop(zoo.mlp(), rows, 32).tobytes()

    np.save(tmp_path / "p.npy/part-000009.npy", rows[:3])
    outcome = predict(tmp_path, *chain, "--overwrite")
    assert outcome.code == 65, outcome.output
    assert "part-000009.npy holds 3 rows of float32 (8,); index.json says 7 of float32 (8,)" in outcome.output
    outcome = run_here("verify", "p.npy", folder=tmp_path)
    assert outcome.code == 65, outcome.output
    for text, says in [("{}", "is not the index of a folder"), ('{"num_rows": 4, "dtype"', "is not the index")]:
        (tmp_path / "p.npy/index.json").write_text(text)
        outcome = predict(tmp_path, *chain, "--overwrite")
        assert (outcome.code, says in outcome.output) == (65, True), outcome.output
