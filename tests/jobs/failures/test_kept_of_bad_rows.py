"""Passthrough columns of rows that fail: the ids of a row are those of the data, however it fails."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from launch import LAUNCHERS, predict_command, predict_here, run
from outputs import read_back

NUM_ROWS = 40
BAD = [0, 9, 39]  # have no value in column b
IDS = list(range(NUM_ROWS))
NAMES = [f"row {row} ü" for row in IDS]
ROWS = np.arange(2 * NUM_ROWS, dtype=np.float64).reshape(-1, 2)
SUFFIXES = [".npy", ".parquet", ".csv", ".jsonl", ".h5", ".zarr"]


def table(with_names: bool = True) -> dict[str, list[object]]:
    b = [None if row in BAD else float(value) for row, value in enumerate(ROWS[:, 1])]
    found = {"id": IDS, "a": ROWS[:, 0].tolist(), "b": b}
    return found | ({"name": NAMES} if with_names else {})


def write_csv(path: Path) -> None:
    pd.DataFrame(table()).to_csv(path, index=False)


def write_json_lines(path: Path) -> None:
    columns = table()
    lines = [{name: values[row] for name, values in columns.items()} for row in IDS]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_parquet(path: Path) -> None:
    pa.parquet.write_table(pa.table(table()), path, row_group_size=7)


def write_parquet_folder(path: Path) -> None:
    path.mkdir()
    whole = pa.table(table())
    for number, start in enumerate(range(0, NUM_ROWS, 13)):
        pa.parquet.write_table(whole.slice(start, 13), path / f"part-{number}.parquet")


WRITERS: dict[str, Callable[[Path], None]] = {
    "d.csv": write_csv,
    "d.jsonl": write_json_lines,
    "d.parquet": write_parquet,
    "folder": write_parquet_folder,
}


def predict(folder: Path, data: str, output: str, *options: str, launcher: str = "here") -> list[dict[str, object]]:
    """Run a job that keeps ids and names; return the lines of its quarantine."""
    command = ["--model", "zoo:Identity", "--data", data, "--columns", "a,b", "--stack", "--on-error", "quarantine"]
    command += ["--batch-size", "4", "--output", output, *options]
    if launcher == "here":
        outcome = predict_here(*command, folder=folder)
    else:
        outcome = run(predict_command(*command, launcher=LAUNCHERS[launcher]), folder)
    assert outcome.code == 0, outcome.output
    lines = (folder / f"{output}.run/quarantine.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def is_finite(value: object) -> bool:
    """Whether a value is a number in the way of its format: JSON has null for NaN, CSV a word or nothing."""
    return value not in (None, "") and math.isfinite(float(value))


def check(folder: Path, output: str, quarantined: list[dict[str, object]], ids: list[int] = IDS) -> None:
    found = read_back(folder / output)
    assert list(found["id"]) == ids
    assert list(found["name"]) == [NAMES[row] for row in ids]
    bad = [place for place, row in enumerate(ids) if row in BAD]
    predictions = next(values for name, values in found.items() if name not in ("id", "name"))
    assert [place for place, value in enumerate(predictions) if not all(map(is_finite, value))] == bad
    assert [line["row"] for line in quarantined] == bad
    assert [line["kept"] for line in quarantined] == [{"id": ids[row], "name": NAMES[ids[row]]} for row in bad]


@pytest.mark.parametrize("data", WRITERS)
def test_a_row_that_cannot_be_read(data: str, tmp_path: Path) -> None:
    WRITERS[data](tmp_path / data)
    quarantined = predict(tmp_path, data, "p.parquet", "--keep", "id,name")
    check(tmp_path, "p.parquet", quarantined)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_in_every_format_that_holds_text(suffix: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "d.csv")
    quarantined = predict(tmp_path, "d.csv", f"p{suffix}", "--keep", "id,name")
    check(tmp_path, f"p{suffix}", quarantined)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_numbers_in_every_format(suffix: str, tmp_path: Path) -> None:
    pd.DataFrame(table(with_names=False)).to_csv(tmp_path / "d.csv", index=False)
    quarantined = predict(tmp_path, "d.csv", f"p{suffix}", "--keep", "id")
    assert [line["kept"] for line in quarantined] == [{"id": row} for row in BAD]
    assert list(read_back(tmp_path / f"p{suffix}")["id"]) == IDS


@pytest.mark.parametrize("launcher", ["mpirun-2", "mpirun-3"])
def test_on_several_ranks(launcher: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "d.csv")
    quarantined = predict(tmp_path, "d.csv", "p.parquet", "--keep", "id,name", launcher=launcher)
    check(tmp_path, "p.parquet", quarantined)


def test_beside_a_column_after_the_path(tmp_path: Path) -> None:
    """The columns to keep are not those of the name after `::`."""
    write_parquet(tmp_path / "d.parquet")
    command = ["--model", "zoo:Identity", "--data", "d.parquet::b", "--keep", "id", "--on-error", "quarantine"]
    outcome = predict_here(*command, "--output", "p.parquet", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    assert read_back(tmp_path / "p.parquet")["id"] == IDS
    lines = (tmp_path / "p.parquet.run/quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line)["kept"] for line in lines] == [{"id": row} for row in BAD]


def test_where_rows_are_skipped(tmp_path: Path) -> None:
    write_parquet(tmp_path / "d.parquet")
    quarantined = predict(tmp_path, "d.parquet", "p.parquet", "--keep", "id,name", "--skip", "5", "--limit", "10")
    check(tmp_path, "p.parquet", quarantined, IDS[5:15])


def test_a_kept_value_that_cannot_be_read_itself(tmp_path: Path) -> None:
    """It becomes null, or the fill value in outputs without null: a 0 would be the id of another row."""
    columns = table()
    columns["id"] = ["nine" if row == 9 else row for row in IDS]
    lines = [{name: values[row] for name, values in columns.items()} for row in IDS]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for suffix, nothing in ((".parquet", None), (".npy", -1)):
        quarantined = predict(tmp_path, "d.jsonl", f"p{suffix}", "--keep", "id")
        assert read_back(tmp_path / f"p{suffix}")["id"] == [nothing if row == 9 else row for row in IDS]
        assert [line["kept"]["id"] for line in quarantined] == [0, None, 39]


def test_a_row_that_fails_in_the_model(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["x"] = ROWS
        file["id"] = IDS
    command = ["--model", "zoo:FailsAtRow", "--model-args", json.dumps({"value": float(ROWS[9, 0])}), "--data", "d.h5"]
    command += ["--columns", "x", "--keep", "id", "--on-error", "quarantine", "--output", "p.parquet"]
    outcome = predict_here(*command, folder=tmp_path)
    assert outcome.code == 0, outcome.output
    (line,) = map(json.loads, (tmp_path / "p.parquet.run/quarantine.jsonl").read_text().splitlines())
    assert (line["row"], line["kept"]) == (9, {"id": 9})
    assert read_back(tmp_path / "p.parquet")["id"] == IDS
