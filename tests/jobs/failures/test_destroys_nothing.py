"""What a job reads, and what others have put beside its output, is never changed or deleted."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import zoo
from launch import predict_here
from PIL import Image
from reference import plain_loop, random_rows

ROWS = random_rows(64, 8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "d.npy", ROWS)
    torch.save(zoo.mlp(seed=1).state_dict(), tmp_path / "w.pt")
    for name in ("pictures", "elsewhere"):
        (tmp_path / name).mkdir()
    Image.fromarray(np.zeros((6, 5, 3), np.uint8)).save(tmp_path / "pictures/0.png")
    with sqlite3.connect(tmp_path / "rows.db") as base:
        base.execute("create table t (id integer primary key, x real)")
        base.execute("insert into t values (1, 1.0)")
    base.close()
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, through links, by name."""
    found = {}
    for top, _, names in os.walk(folder, followlinks=True):
        found.update({os.path.join(top, name): Path(top, name).read_bytes() for name in names})
    return found


def predict(folder: Path, *options: str, model: str = "zoo:mlp") -> tuple[int, str]:
    outcome = predict_here("--model", model, *options, "--batch-size", "8", folder=folder)
    return outcome.code, outcome.output


def link(target: str, name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).symlink_to(target)


def nothing(_: Path) -> None:
    pass


INPUTS: dict[str, tuple[Callable[[Path], None], list[str], str]] = {
    "the data": (nothing, ["--data", "d.npy", "--output", "d.npy"], "is the same as --data d.npy"),
    "another spelling": (nothing, ["--data", "d.npy", "--output", "pictures/../d.npy"], "is the same as --data d.npy"),
    "a link to it": (link("d.npy", "p.npy"), ["--data", "d.npy", "--output", "p.npy"], "is the same as --data d.npy"),
    "through a link": (link("d.npy", "x.npy"), ["--data", "x.npy", "--output", "d.npy"], "is the same as --data x.npy"),
    "a hard link": (
        lambda folder: os.link(folder / "d.npy", folder / "p.npy"),
        ["--data", "d.npy", "--output", "p.npy"],
        "is the same as --data d.npy",
    ),
    "one of a pattern": (nothing, ["--data", "d*.npy", "--output", "d.npy"], "is the same as --data d.npy"),
    "a linked folder": (
        link("pictures", "same"),
        ["--model", "zoo:Pixels", "--data", "pictures", "--output", "same/p.npy"],
        "is inside of --data pictures",
    ),
    "in a folder of pictures": (
        nothing,
        ["--model", "zoo:Pixels", "--data", "pictures", "--output", "pictures/p.npy"],
        "is inside of --data pictures",
    ),
    "around the data": (
        lambda folder: (folder / "p.zarr").mkdir() or shutil.copy(folder / "d.npy", folder / "p.zarr/d.npy"),
        ["--data", "p.zarr/d.npy", "--output", "p.zarr"],
        "is a folder with --data p.zarr/d.npy",
    ),
    "the data are its partial file": (
        lambda folder: (folder / "x.npy").symlink_to((folder / "d.npy").rename(folder / "p.npy.partial")),
        ["--data", "x.npy", "--output", "p.npy"],
        "p.npy.partial, which is written on the way, is the same as --data x.npy",
    ),
    "the data are among its records": (
        lambda folder: (folder / "p.npy.run").mkdir() or shutil.copy(folder / "d.npy", folder / "p.npy.run/d.npy"),
        ["--data", "p.npy.run/d.npy", "--output", "p.npy"],
        "p.npy.run, which is written on the way, is a folder with --data p.npy.run/d.npy",
    ),
    "the weights": (
        link("w.pt", "w.npy"),
        ["--data", "d.npy", "--weights", "w.pt", "--output", "w.npy"],
        "is the same as --weights w.pt",
    ),
    "a constant": (
        lambda folder: np.save(folder / "c.npy", np.zeros(3)),
        ["--data", "d.npy", "--input", "c=c.npy", "--output", "c.npy"],
        "is the same as --input c.npy",
    ),
    "a database": (
        link("rows.db", "p.npy"),
        ["--data", "sqlite:///rows.db::t", "--output", "p.npy"],
        "is the same as --data rows.db",
    ),
}


@pytest.mark.parametrize("case", INPUTS)
def test_an_input_is_no_output(case: str, folder: Path) -> None:
    make, options, message = INPUTS[case]
    make(folder)
    before = contents(folder)
    code, said = predict(folder, *options, "--overwrite")
    assert code == 73, said
    assert message in said
    assert contents(folder) == before


OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "notes in the run folder": (
        lambda folder: (folder / "p.parquet.run").mkdir() or (folder / "p.parquet.run/notes.txt").write_text("mine"),
        "p.parquet.run, where records of the job are kept, holds files of others: notes.txt",
    ),
    "the run folder is a link": (
        link("elsewhere", "p.parquet.run"),
        "p.parquet.run, where records of the job are kept, is a link",
    ),
    "the run folder is a file": (
        lambda folder: (folder / "p.parquet.run").write_text("mine"),
        "p.parquet.run, where records of the job are kept, is a file",
    ),
    "a folder where the spool goes": (
        lambda folder: (folder / "p.parquet.partial").mkdir() or (folder / "p.parquet.partial/a").write_text("mine"),
        "p.parquet.partial is there, and no run of the runner is recorded in p.parquet.run",
    ),
    "a file where the spool goes": (
        lambda folder: (folder / "p.parquet.partial").write_text("mine"),
        "p.parquet.partial is there",
    ),
    "the spool is a link": (link("elsewhere/ledger.jsonl", "p.parquet.partial"), "p.parquet.partial is a link"),
    "a folder where the output is written": (
        lambda folder: (folder / "p.parquet.writing").mkdir() or (folder / "p.parquet.writing/a").write_text("mine"),
        "p.parquet.writing is there",
    ),
    "a folder where an old output goes": (
        lambda folder: (folder / "p.parquet.replaced").mkdir() or (folder / "p.parquet.replaced/a").write_text("mine"),
        "p.parquet.replaced is there",
    ),
}


@pytest.mark.parametrize("option", ["--overwrite", "--fresh"])
@pytest.mark.parametrize("case", OTHERS)
def test_what_others_have_put_beside_the_output_stays(case: str, option: str, folder: Path) -> None:
    make, message = OTHERS[case]
    (folder / "elsewhere/ledger.jsonl").write_text("precious")
    make(folder)
    before = contents(folder)
    code, said = predict(folder, "--data", "d.npy", "--output", "p.parquet", option)
    assert code == 73, said
    assert message in said
    assert contents(folder) == before


def test_a_run_folder_of_another_user(folder: Path) -> None:
    if os.geteuid():
        pytest.skip("files are given away by root alone")
    (folder / "p.npy.run").mkdir()
    os.chown(folder / "p.npy.run", 12345, -1)
    code, said = predict(folder, "--data", "d.npy", "--output", "p.npy")
    assert code == 73, said
    assert "p.npy.run, where records of the job are kept, belongs to another user" in said
    assert not (folder / "p.npy").exists()


def test_other_files_in_a_run_folder_stay_when_it_is_used_again(folder: Path) -> None:
    for option in ("--overwrite", "--fresh"):
        assert predict(folder, "--data", "d.npy", "--output", "p.npy", option, "--overwrite")[0] == 0
        (folder / "p.npy.run/notes.txt").write_text("mine")
    assert predict(folder, "--data", "d.npy", "--output", "p.npy", "--overwrite")[0] == 0
    assert (folder / "p.npy.run/notes.txt").read_text() == "mine"


def test_a_job_that_failed_before_its_first_row_is_no_obstacle(folder: Path) -> None:
    job = ["--data", "d.npy", "--output", "p.npy"]
    code, said = predict(folder, *job, model="zoo:raises")
    assert code != 0, said
    assert not (folder / "p.npy.run").exists()
    bad = json.dumps({"value": float(ROWS[0, 0])})
    code, said = predict(folder, *job, "--model-args", bad, model="zoo:FailsAtRow")
    assert code != 0, said
    code, said = predict(folder, *job)
    assert code == 0, said
    assert np.load(folder / "p.npy").tobytes() == plain_loop(zoo.mlp(), ROWS, 8).tobytes()


def test_a_run_without_rows_is_forgotten_for_a_corrected_command(folder: Path) -> None:
    """The first row works, the first chunk does not: the run has a ledger, and nothing in it."""
    bad = json.dumps({"value": float(ROWS[3, 0])})
    job = ["--data", "d.npy", "--output", "p.npy"]
    code, said = predict(folder, *job, "--model-args", bad, model="zoo:FailsAtRow")
    assert code == 65, said
    assert (folder / "p.npy.run/ledger.jsonl").exists()
    code, said = predict(folder, *job)
    assert code == 0, said
    assert "runner: starting over: the earlier job has computed no rows, and differs in model (was " in said
    assert np.load(folder / "p.npy").tobytes() == plain_loop(zoo.mlp(), ROWS, 8).tobytes()


MAKES_A_FILE = """
from torch import nn

class Makes(nn.Module):
    def __init__(self, path, value):
        super().__init__()
        self.path, self.value = path, value

    def forward(self, rows):
        if (rows[:, 0] == self.value).any():
            with open(self.path, "w") as file:
                file.write("precious")
        return rows * 2
"""


@pytest.mark.parametrize("name", ["p.npy", "p.parquet"])
def test_an_output_that_another_program_makes_meanwhile(name: str, folder: Path) -> None:
    (folder / "own.py").write_text(MAKES_A_FILE)
    makes = {"path": str(folder / name), "value": float(ROWS[40, 0])}
    job = ["--model-args", json.dumps(makes), "--data", "d.npy", "--output", name, "--chunk-size", "8"]
    for message in ("has been made by another program while this job ran", "exists already"):
        code, said = predict(folder, *job, model="own:Makes")
        assert code == 73, said
        assert message in said
        assert (folder / name).read_text() == "precious"
    (folder / name).rename(folder / "precious")
    code, said = predict(folder, *job, model="own:Makes")
    assert code == 0, said
    assert "64 resumed" in said


def test_a_damaged_ledger_is_refused_and_discarded_on_request(folder: Path) -> None:
    job = ["--data", "d.npy", "--output", "p.npy"]
    assert predict(folder, *job)[0] == 0
    (folder / "p.npy").rename(folder / "p.npy.partial")
    (folder / "p.npy.run/report.json").unlink()
    (folder / "p.npy.run/ledger.jsonl").write_text('{"model": \n')
    code, said = predict(folder, *job)
    assert code == 65, said
    assert "ledger.jsonl is damaged. --fresh discards the run" in said
    code, said = predict(folder, *job, "--fresh")
    assert code == 0, said
    assert np.load(folder / "p.npy").tobytes() == plain_loop(zoo.mlp(), ROWS, 8).tobytes()
