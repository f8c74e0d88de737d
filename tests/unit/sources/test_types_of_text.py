"""Types of the columns of CSV and JSON lines: text stays as it is written, and types can be given."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from launch import predict_here

from runner.core.errors import InputError, UsageError
from runner.data.cell_types import cell_name
from runner.data.cells import from_cells
from runner.data.rows import Ragged, RowType
from runner.data.tensors import as_batch
from runner.sources import ReadOptions, open_source


def kept(path: Path, text: str, name: str = "id", **options: Any) -> tuple[str, list[Any]]:
    """Type and values of the passthrough column `id` beside the column `x` for a model."""
    path.write_text(text)
    source = open_source(str(path), ["x"], [name], options=ReadOptions(cells=[name], **options))
    rows = source.read(0, source.num_rows)
    assert isinstance(rows, dict)
    cells = rows[name]
    assert isinstance(cells, Ragged)
    return cell_name(cells.values.dtype), from_cells(cells).to_pylist()


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        (["7", "12"], "int64"),
        (["007", "12"], "string"),
        (["12345678901234567890", "12345678901234567891"], "string"),
        (["0x1F", "0x20"], "string"),
        (["+1", "2"], "string"),
        (["0.5", "1.25"], "double"),
        (["00.5", "1.25"], "string"),
        (["2026-01-02", "2026-01-03"], "string"),
        (["2026-01-02T03:04:05Z", "2026-01-03T03:04:05Z"], "string"),
        (["10:00:00", "11:00:00"], "string"),
        (["NA", "x"], "string"),
    ],
)
def test_ids_in_csv_stay_what_their_text_says(written: list[str], kind: str, tmp_path: Path) -> None:
    text = "id,x\n" + "".join(f"{value},1\n" for value in written)
    found, values = kept(tmp_path / "d.csv", text)
    assert found == f"{kind} or null"
    assert values == [json.loads(value) if kind in ("int64", "double") else value for value in written]


def test_a_late_id_that_is_no_number_is_named(tmp_path: Path) -> None:
    text = "id,x\n" + "12345,1\n" * 600_000 + "007,2\n,3\n"
    (tmp_path / "d.csv").write_text(text)
    source = open_source(str(tmp_path / "d.csv"), ["x"], ["id"])
    says = r"row 600000 of column 'id' is '007', where those before are whole numbers.*--types id=string"
    with pytest.raises(InputError, match=says):
        source.read(600_000, 600_001)
    source = open_source(str(tmp_path / "d.csv"), ["x"], ["id"], options=ReadOptions(types={"id": "string"}))
    assert as_batch(source.read(599_999, 600_002))["id"] == ["12345", "007", ""]


def test_hexadecimal_numbers_are_not_read_as_negative_ones(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("x,y\n0x1F,-1\n0x7fffffffffffffff,2\n0xffffffffffffffff,3\n")
    source = open_source(str(path))
    rows: Any = source.read(0, 2)
    assert rows["x"].tolist() == [0x1F, 2**63 - 1]
    with pytest.raises(InputError, match=r"row 2 of column 'x' is 0xf+, which is too large for int64.*x=uint64"):
        source.read(1, 3)
    source = open_source(str(path), ["x"], options=ReadOptions(types={"x": "uint64"}))
    assert source.read(0, 3).tolist() == [0x1F, 2**63 - 1, 2**64 - 1]  # type: ignore[union-attr]


def test_nothing_is_null_in_numbers_and_nan_is_a_number(tmp_path: Path) -> None:
    assert kept(tmp_path / "d.csv", "id,x\n7,1\n,2\nNone,3\n") == ("int64 or null", [7, None, None])
    pd.DataFrame({"x": [0.5, np.nan, np.inf]}).to_csv(tmp_path / "d.csv", index=False, na_rep="NaN")
    np.testing.assert_array_equal(open_source(str(tmp_path / "d.csv")).read(0, 3), [0.5, np.nan, np.inf])
    pd.DataFrame({"x": [0.5, np.nan], "n": [1, 2]}).to_csv(tmp_path / "d.csv", index=False)
    with pytest.raises(InputError, match=r"row 1 of column 'x' is null\. Read nulls as NaN with --null nan"):
        open_source(f"{tmp_path}/d.csv::x").read(0, 2)
    (tmp_path / "d.csv").write_text("x,n,t\n0.5,1,a\n,,\n")
    rows = open_source(str(tmp_path / "d.csv"), options=ReadOptions(null_is_nan=True)).read(0, 2)
    found = as_batch(rows)
    np.testing.assert_array_equal(found["x"], [0.5, np.nan])
    np.testing.assert_array_equal(found["n"], [1, np.nan])
    assert found["t"] == ["a", ""]


def test_text_that_looks_like_a_time_stays_text_in_json_lines(tmp_path: Path) -> None:
    lines = [{"x": 1, "id": "2026-01-02", "deep": {"a": ["2026-01-02T03:04:05Z"]}}, {"x": 2, "id": None, "deep": None}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    assert kept(tmp_path / "d.jsonl", text) == ("string or null", ["2026-01-02", None])
    assert kept(tmp_path / "d.jsonl", text, "deep")[1] == [{"a": ["2026-01-02T03:04:05Z"]}, None]
    assert as_batch(open_source(f"{tmp_path}/d.jsonl::id").read(0, 1)) == ["2026-01-02"]
    (tmp_path / "d.jsonl").write_text('{"x":1,"id":12345678901234567890}\n')
    with pytest.raises(InputError, match="field 'id' holds 12345678901234567890, which has no place in 64 bits"):
        open_source(str(tmp_path / "d.jsonl"))
    assert open_source(f"{tmp_path}/d.jsonl::x").read(0, 1).tolist() == [1]  # type: ignore[union-attr]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_types_are_given(suffix: str, tmp_path: Path) -> None:
    path, frame = tmp_path / f"d.{suffix}", pd.DataFrame({"x": [1, 2], "y": [3, 4]})
    if suffix == "csv":
        frame.to_csv(path, index=False)
    elif suffix == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    source = open_source(str(path), options=ReadOptions(types={"x": "float32"}))
    assert source.row_type == {"x": RowType((), np.dtype("f4")), "y": RowType((), np.dtype("i8"))}
    assert source.read(0, 2)["x"].tolist() == [1, 2]  # type: ignore[call-overload, union-attr]
    with pytest.raises(InputError, match="'z'; it has x, y"):
        open_source(str(path), options=ReadOptions(types={"z": "float32"}))
    command = ["--model", "zoo:Identity", "--data", path, "--output", "p.npy", "--columns", "x"]
    outcome = predict_here(*command, "--types", "x=float64", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    assert np.load(tmp_path / "p.npy").dtype == np.dtype("f8")
    outcome = predict_here(*command, "--types", "x=double", "--overwrite", folder=tmp_path)
    assert (outcome.code, "--types 'x=double' must be NAME=TYPE, with a type of string, bool" in outcome.output) == (
        64,
        True,
    )


def test_options_that_say_nothing_about_a_format_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.ones(3))
    for options, says in (
        (ReadOptions(types={"x": "float32"}), "--types is for tables"),
        (ReadOptions(null_is_nan=True), "--null is for tables"),
        (ReadOptions(args={"n": 1}), "--data-args are for a function"),
    ):
        for data in (str(tmp_path / "d.npy"), np.ones(3)):
            with pytest.raises(UsageError, match=says):
                open_source(data, options=options)


def test_files_whose_numbers_differ_are_read_with_a_type_for_all(tmp_path: Path) -> None:
    for index, text in enumerate(["id,x\n1,1\n", "id,x\n007,0.5\n", "id,x\n", "id,x\n3,2\n"]):
        (tmp_path / f"{index}.csv").write_text(text)
    source: Any = open_source(f"{tmp_path}/*.csv", ["x"], ["id"], options=ReadOptions(cells=["id"]))
    source.use([source.scan(part, 3) for part in range(3)])
    assert source.num_rows == 3
    rows = source.read(0, 3)
    assert rows["x"].tolist() == [1, 0.5, 2]
    assert from_cells(rows["id"]).to_pylist() == ["1", "007", "3"]
    assert source.digest()
    (tmp_path / "4.csv").write_text("id,x\n5,five\n")
    with pytest.raises(InputError, match=r"4\.csv: its rows are x: text.*All files of a data set must be of one type"):
        open_source(f"{tmp_path}/*.csv", ["x"], ["id"]).num_rows  # noqa: B018
    for index, lists in enumerate([[[1, 2], [3, 4]], [], [[5, 6]], [[7, 8, 9]]]):
        table = pa.table({"v": pa.array(lists, pa.list_(pa.int64())), "n": pa.array([index] * len(lists), pa.int32())})
        pa.parquet.write_table(table, tmp_path / f"{index}.parquet")
    alike = open_source([f"{tmp_path}/{index}.parquet" for index in (0, 1, 2)], ["v"])
    assert alike.num_rows == 3
    assert alike.row_type == RowType((2,), np.dtype("i8"))
    assert alike.read(0, 3).tolist() == [[1, 2], [3, 4], [5, 6]]  # type: ignore[union-attr]
    unlike = open_source(f"{tmp_path}/*.parquet")
    assert unlike.num_rows == 4
    found = as_batch(unlike.read(0, 4))
    assert [row.tolist() for row in found["v"]] == [[1, 2], [3, 4], [5, 6], [7, 8, 9]]
    assert found["n"].tolist() == [0, 0, 2, 3]


@pytest.mark.parametrize(
    ("text", "columns", "says"),
    [
        ("a,b,a\n1,2,3\n", [], "has 2 columns named 'a'"),
        ("a,b,a\n1,2,3\n", ["b"], ""),
        ("# made by a tool\na,b\n1,2\n", [], "its first line is a comment, '# made by a tool'"),
        ("#a,b\n1,2\n", [], ""),
        ("a;b\n1,5;2\n", [], "separated by semicolons"),
        ("569,30,m,b\n1,2,3,4,5\n2,3,4,5,6\n", [], "its first line has 4 fields, and the rows have 5"),
    ],
)
def test_beginnings_of_csv_files(text: str, columns: list[str], says: str, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(text)
    if says:
        with pytest.raises(InputError, match=says):
            open_source(str(tmp_path / "d.csv"), columns)
    else:
        assert open_source(str(tmp_path / "d.csv"), columns).num_rows == 1
