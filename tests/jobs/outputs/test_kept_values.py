"""Passthrough columns of any type, and null in them: in the output as they are in the data."""

import datetime
import decimal
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from launch import LAUNCHERS, predict_command, predict_here, run, run_here
from outputs import read_back

DAY = datetime.datetime(2026, 1, 2, 3, 4, 5)
KEPT: dict[str, list[Any]] = {
    "id": ["a", None, "", "007"],
    "number": [1, None, 3, 4],
    "weight": [0.5, None, 1.5, 2.5],
    "good": [True, None, False, True],
    "day": [DAY.date(), None, DAY.date(), DAY.date()],
    "when": [DAY, None, DAY, DAY],
    "price": [decimal.Decimal("1.10"), None, decimal.Decimal("2.00"), decimal.Decimal("3.30")],
    "tags": [["a", "b"], None, [], ["c"]],
    "raw": [b"\xff", None, b"", b"x"],
    "of": [{"p": 1, "q": "x"}, None, {"p": 2, "q": None}, {"p": None, "q": "y"}],
}
TABLE = pa.table(
    {"v": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]}
    | KEPT
    | {"when": pa.array(KEPT["when"], pa.timestamp("us", "UTC"))}
)
NAMES = ",".join(KEPT)
COMMON = ["--model", "zoo:Identity", "--data", "d.parquet", "--columns", "v", "--batch-size", "2"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pyarrow.parquet.write_table(TABLE, tmp_path / "d.parquet", row_group_size=3)
    return tmp_path


def test_every_type_goes_through_to_parquet(folder: Path) -> None:
    launched = predict_command(*COMMON, "--keep", NAMES, "--output", "p.parquet", launcher=LAUNCHERS["mpirun-2"])
    outcome = run(launched, folder)
    assert outcome.code == 0, outcome.output
    found = pyarrow.parquet.read_table(folder / "p.parquet")
    assert found.select(list(KEPT)).equals(TABLE.select(list(KEPT)))
    assert found["predictions"].to_pylist() == TABLE["v"].to_pylist()
    outcome = run_here("verify", "p.parquet", "--data", "d.parquet", folder=folder)
    assert outcome.code == 0, outcome.output


def test_and_to_feather(folder: Path) -> None:
    outcome = predict_here(*COMMON, "--keep", NAMES, "--output", "p.feather", folder=folder)
    assert outcome.code == 0, outcome.output
    found = pyarrow.feather.read_table(folder / "p.feather")
    assert found.select(list(KEPT)).equals(TABLE.select(list(KEPT)))
    assert np.array_equal(
        np.stack(pd.read_feather(folder / "p.feather")["predictions"]), np.stack(TABLE["v"].to_pylist())
    )


def test_and_to_json_lines_and_csv(folder: Path) -> None:
    for suffix in ("jsonl", "csv"):
        outcome = predict_here(*COMMON, "--keep", NAMES, "--output", f"p.{suffix}", folder=folder)
        assert outcome.code == 0, outcome.output
    found = read_back(folder / "p.jsonl")
    for name in ("id", "number", "weight", "good", "tags", "of"):
        assert found[name] == KEPT[name]
    assert found["day"] == ["2026-01-02", None, "2026-01-02", "2026-01-02"]
    assert found["price"] == ["1.10", None, "2.00", "3.30"]
    assert [pd.Timestamp(text) for text in found["when"] if text] == [pd.Timestamp(DAY, tz="UTC")] * 3
    frame = pd.read_csv(
        folder / "p.csv", dtype={"id": str}, keep_default_na=False, na_values={"number": "", "weight": ""}
    )
    assert frame["id"].tolist() == ["a", "", "", "007"]
    assert frame["number"].tolist()[2:] == frame["number"].dropna().tolist()[1:] == [3, 4]
    assert frame["price"].tolist() == ["1.10", "", "2.00", "3.30"]
    assert json.loads(frame["of"][2]) == KEPT["of"][2]
    assert frame["predictions_1"].tolist() == [2, 4, 6, 8]


def test_an_output_without_null_takes_nan_alone(folder: Path) -> None:
    outcome = predict_here(*COMMON, "--keep", "day", "--output", "p.npy", folder=folder)
    says = "--keep passes columns of any type to .parquet, .feather, .jsonl and .csv"
    assert (outcome.code, says in outcome.output) == (65, True)
    outcome = predict_here(*COMMON, "--keep", "number", "--output", "p.npy", folder=folder)
    assert outcome.code == 65
    assert "row 1 of column 'number' is null" in outcome.output


def test_a_column_for_the_model_and_the_output_is_one_for_the_model(folder: Path) -> None:
    command = [*COMMON, "--columns", "weight,number", "--stack", "--keep", "weight", "--output", "p.parquet"]
    outcome = predict_here(*command, folder=folder)
    assert (outcome.code, "row 1 of column 'weight' is null" in outcome.output) == (65, True)


def test_gaps_in_a_kept_column_of_pandas_cost_no_prediction(tmp_path: Path) -> None:
    """Rows without a sex have measurements, and so predictions."""
    frame = pd.DataFrame({"bill": [39.1, 39.5, np.nan], "sex": ["male", None, None], "year": [2007, 2007, 2008]})
    frame.to_parquet(tmp_path / "d.parquet")
    command = ["--model", "zoo:Identity", "--data", "d.parquet", "--columns", "bill", "--keep", "sex,year"]
    outcome = predict_here(*command, "--output", "p.parquet", "--on-error", "quarantine", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    found = pd.read_parquet(tmp_path / "p.parquet")
    assert found["sex"].tolist()[0] == "male"
    assert found["sex"].isna().tolist() == [False, True, True]
    assert found["predictions"].isna().tolist() == [False, False, True]
    (line,) = map(json.loads, (tmp_path / "p.parquet.run/quarantine.jsonl").read_text().splitlines())
    assert (line["row"], line["kept"]) == (2, {"sex": None, "year": 2008})


def test_values_of_a_database_and_null_in_them(tmp_path: Path) -> None:
    rows = [(1, 0.5, "a", b"\xff", 1), (2, None, None, None, "x"), (3, 1.5, "", b"", None)]
    with sqlite3.connect(tmp_path / "d.db") as database:
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x REAL, name TEXT, raw BLOB, mixed)")
        database.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?)", rows)
    command = [
        "--model",
        "zoo:Identity",
        "--data",
        "sqlite:///d.db::t",
        "--columns",
        "x",
        "--keep",
        "id,name,raw,mixed",
    ]
    outcome = predict_here(*command, "--null", "nan", "--output", "p.parquet", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    found = pyarrow.parquet.read_table(tmp_path / "p.parquet").to_pydict()
    assert (found["id"], found["name"]) == ([1, 2, 3], ["a", None, ""])
    assert (found["raw"], found["mixed"]) == ([b"\xff", None, b""], ["1", "x", None])
    assert str(found["predictions"]) == "[0.5, nan, 1.5]"
    outcome = predict_here(*command, "--output", "p.npy", "--keep", "id", folder=tmp_path)
    assert (outcome.code, "column 'x' is null. Read nulls as NaN with --null nan" in outcome.output) == (65, True)
