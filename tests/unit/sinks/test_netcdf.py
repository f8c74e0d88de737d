"""netCDF files, as netCDF4 and xarray read them, and Zarr folders as xarray does."""

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray
from launch import predict_here

from runner.core.errors import OutputError, UsageError
from runner.data.rows import RAGGED, TEXT, RowType, ragged_text
from runner.sinks import find_writer, path_checksum
from runner.sinks.netcdf import NetcdfWriter

NUM_ROWS = 50
RNG = np.random.default_rng(0)
WORDS = ["", "möglich ", "a\n"] * NUM_ROWS
COLUMNS: dict[str, np.ndarray] = {
    "double": RNG.normal(size=(NUM_ROWS, 3, 2)),
    "half": RNG.normal(size=NUM_ROWS).astype("f2"),
    "good": np.arange(NUM_ROWS) % 3 == 0,
    "row": np.arange(NUM_ROWS) * 2,
    "unsigned": np.arange(NUM_ROWS, dtype="u8") + 2**63,
    "byte": np.arange(NUM_ROWS * 4).reshape(NUM_ROWS, 4).astype("u1"),
    "möglich x": np.full((NUM_ROWS, 2), np.nan, "f4"),
    "empty": np.ones((NUM_ROWS, 0), "i2"),
}
TYPES = {name: RowType(column.shape[1:], column.dtype) for name, column in COLUMNS.items()}
TYPES["word"] = RowType(RAGGED, TEXT)


def write(path: Path, num_rows: int = NUM_ROWS) -> Path:
    NetcdfWriter.check(str(path), TYPES)
    file = NetcdfWriter(str(path), TYPES, num_rows, {"model": "m"})
    for start in range(0, num_rows, 20):
        rows = slice(start, min(num_rows, start + 20))
        columns: dict[str, Any] = {name: column[rows] for name, column in COLUMNS.items()}
        file.write({**columns, "word": ragged_text(WORDS[rows])})
    file.close()
    return path


def test_what_xarray_and_netcdf4_read(tmp_path: Path) -> None:
    path = write(tmp_path / "p.nc")
    with xarray.open_dataset(path) as found:
        assert found.attrs == {"model": "m"}
        assert list(found.variables) == [*COLUMNS, "word"]
        assert found["double"].dims == ("row_", "double_0", "double_1")
        assert found["word"].values.tolist() == WORDS[:NUM_ROWS]
        for name, column in COLUMNS.items():
            assert found[name].dtype == (np.float32 if name == "half" else column.dtype), name
            assert np.array_equal(found[name].values, column, equal_nan=column.dtype.kind == "f"), name
    with netCDF4.Dataset(path, "a") as file:  # which can add to it
        assert {name: len(axis) for name, axis in file.dimensions.items()} == {
            "row_": NUM_ROWS,
            "double_0": 3,
            "double_1": 2,
            "byte_0": 4,
            "möglich x_0": 2,
            "empty_0": 0,
        }
        assert np.array_equal(file["unsigned"][:], COLUMNS["unsigned"])
        file.createVariable("new", "f4", ("row_",))[:] = 1
    with netCDF4.Dataset(path) as file:
        assert file["new"][:].tolist() == [1] * NUM_ROWS
        assert file["word"][:].tolist() == WORDS[:NUM_ROWS]
    assert path_checksum(str(write(tmp_path / "a.nc"))) == path_checksum(str(write(tmp_path / "b.nc")))


def test_no_rows(tmp_path: Path) -> None:
    with xarray.open_dataset(write(tmp_path / "p.nc", 0)) as found:
        assert found.sizes == {"row_": 0, "double_0": 3, "double_1": 2, "byte_0": 4, "möglich x_0": 2, "empty_0": 0}


@pytest.mark.parametrize(
    ("name", "row_type", "words"),
    [
        ("x", RowType((2,), np.dtype("c8")), "Give its real and imaginary parts with --postprocess"),
        ("x", RowType((-1,), np.dtype("f4")), "netCDF cannot hold 'x', float32 .* per row; .parquet and .jsonl can"),
        ("a/b", RowType((), np.dtype("f4")), "cannot hold an array named 'a/b'"),
        ("x ", RowType((), np.dtype("f4")), "cannot hold an array named 'x '"),
        ("-x", RowType((), np.dtype("f4")), "names begin with a letter"),
    ],
)
def test_what_netcdf_cannot_hold(name: str, row_type: RowType, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find_writer("p.nc", {name: row_type, "word": RowType(RAGGED, TEXT)})


def test_text_with_a_nul_is_told_by_its_row(tmp_path: Path) -> None:
    file = NetcdfWriter(str(tmp_path / "p.nc"), {"word": RowType(RAGGED, TEXT)}, 4)
    file.write({"word": ragged_text(["a", "b"])})
    with pytest.raises(OutputError, match="row 3 of 'word' is text with a NUL"):
        file.write({"word": ragged_text(["a", "b\0"])})


def test_a_job_writes_netcdf_and_zarr_that_xarray_opens(tmp_path: Path) -> None:
    rows = RNG.normal(size=(NUM_ROWS, 4)).astype("f4")
    np.savez(tmp_path / "d.npz", rows=rows, id=np.arange(NUM_ROWS))
    common = ["--model", "sink_models:Several", "--data", "d.npz", "--columns", "rows", "--keep", "id"]
    for suffix in ("nc", "zarr"):
        outcome = predict_here(*common, "--output", f"p.{suffix}", folder=tmp_path)
        assert outcome.code == 0, outcome.output
    engines: dict[str, dict[str, Any]] = {"nc": {}, "zarr": {"engine": "zarr", "consolidated": False}}
    for suffix, options in engines.items():
        with xarray.open_dataset(tmp_path / f"p.{suffix}", **options) as found:
            assert found.attrs["model"] == "sink_models:Several"
            assert found["id"].values.tolist() == list(range(NUM_ROWS))
            assert found["id"].dims == ("row",)
            assert np.array_equal(found["double"].values, np.float64(rows * 2))
            assert np.array_equal(found["half"].values, rows.astype("f2"))
            assert np.array_equal(found["label"].values, rows[:, 0] > 0)
