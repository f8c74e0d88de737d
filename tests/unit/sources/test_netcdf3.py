"""Variables of netCDF of version 3, written by the netCDF library, against what xarray reads."""

import re
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr
from launch import predict_here

from runner.core.errors import InputError
from runner.data.rows import RAGGED, TEXT, RowType
from runner.data.tensors import as_batch
from runner.sources import open_source
from runner.sources.arrays import strided

NUM_ROWS = 203
RNG = np.random.default_rng(0)
GRID = RNG.normal(size=(NUM_ROWS, 4, 3))
NUMBERS: dict[str, tuple[str, np.ndarray, dict[str, Any]]] = {  # dtype in the file, values in it, attributes
    "single": ("f4", GRID, {}),
    "double": ("f8", GRID, {"units": "K"}),
    "byte": ("i1", np.arange(NUM_ROWS) % 100, {}),
    "wide": ("i4", np.arange(NUM_ROWS) * 70_000, {}),
    "packed": ("i2", (GRID * 1000).astype("i2"), {"scale_factor": 0.01, "add_offset": 280.0, "_FillValue": -32768}),
    "packed in single": ("i2", (GRID * 1000).astype("i2"), {"scale_factor": np.float32(0.5)}),
    "unsigned": ("i1", np.arange(NUM_ROWS) % 200 - 100, {"_Unsigned": "true"}),
    "marked": ("f4", np.round(GRID), {"missing_value": np.float32(1)}),
}
TEXTS = [("möglich " * (row % 3)).strip() for row in range(NUM_ROWS)]
FORMATS = ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET"]


def write(path: Path, kind: Any, records: bool = True, names: list[str] | None = None) -> str:
    """All variables, along the record dimension or along another."""
    with netCDF4.Dataset(path, "w", format=kind) as file:
        for name, size in (("row", None if records else NUM_ROWS), ("y", 4), ("x", 3), ("length", 24)):
            file.createDimension(name, size)
        for name, (dtype, values, attributes) in NUMBERS.items():
            if names is None or name in names:
                dimensions = ("row", "y", "x")[: values.ndim]
                fill = attributes.get("_FillValue")
                variable = file.createVariable(name, dtype, dimensions, fill_value=fill)
                variable.set_auto_maskandscale(False)
                variable.setncatts({key: value for key, value in attributes.items() if key != "_FillValue"})
                variable[:] = values
                if fill is not None:
                    variable[NUM_ROWS // 2, 0, 0] = fill
        if names is None:
            letters = np.array([text.encode() for text in TEXTS], "S24").view("S1").reshape(NUM_ROWS, 24)
            file.createVariable("text", "S1", ("row", "length"))[:] = letters
            file.createVariable("one", "f4", ())[:] = 3
            file.createVariable("letters", "S1", ("row",))[:] = b"x"
    return str(path)


@pytest.mark.parametrize("records", [True, False])
@pytest.mark.parametrize("kind", FORMATS)
def test_any_rows_are_what_xarray_reads(
    kind: str, records: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "d.nc", kind, records)
    with xr.open_dataset(path, engine="netcdf4", decode_times=False) as dataset:
        expected = {name: dataset[name].values for name in NUMBERS}
    for gap in (0, 16 << 10):  # a read for each row, and over all
        monkeypatch.setattr(strided, "_GAP_BYTES", gap)
        monkeypatch.setattr(strided, "_READ_BYTES", 5000)
        for name, values in expected.items():
            source = open_source(f"{path}::{name}")
            assert source.num_rows == NUM_ROWS
            assert source.row_type == RowType(values.shape[1:], values.dtype.newbyteorder("="))
            for start, stop in [(0, NUM_ROWS), (0, 1), (NUM_ROWS - 1, NUM_ROWS), (60, 150), (7, 7)]:
                rows = source.read(start, stop)
                assert isinstance(rows, np.ndarray)
                assert rows.dtype.isnative
                np.testing.assert_array_equal(rows, values[start:stop], strict=True)
    assert np.isnan(open_source(f"{path}::packed").read(NUM_ROWS // 2, NUM_ROWS // 2 + 1)).sum() == 1  # type: ignore
    text = open_source(path, ["wide"], ["text"])
    assert text.row_type["text"] == RowType(RAGGED, TEXT)  # type: ignore[index]
    found = as_batch(text.read(5, 99))
    assert found["text"] == TEXTS[5:99]
    assert found["wide"].tolist() == expected["wide"][5:99].tolist()


@pytest.mark.parametrize("name", ["packed", "byte", "double"])
def test_a_single_record_variable_has_no_padding(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "d.nc", FORMATS[0], names=[name])
    with xr.open_dataset(path, engine="netcdf4", decode_times=False) as dataset:
        np.testing.assert_array_equal(open_source(path).read(0, NUM_ROWS), dataset[name].values)


def test_text_in_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "d.nc"
    for encoding in ("latin-1", "none"):
        with netCDF4.Dataset(path, "w", format=FORMATS[0]) as file:
            file.createDimension("row", 1)
            file.createDimension("length", 4)
            variable = file.createVariable("text", "S1", ("row", "length"))
            variable[:] = np.array([[b"\xfc", b"b", b"", b""]])
            variable._Encoding = encoding
        if encoding == "latin-1":
            assert as_batch(open_source(str(path)).read(0, 1)) == ["üb"]
        else:
            with pytest.raises(InputError, match="its attribute _Encoding is 'none', which is no encoding"):
                open_source(str(path))


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "d.nc", FORMATS[0]))
    for name, message in (
        ("one", "is a single value; its first dimension"),
        ("letters", r"of shape \(203,\), of characters, not"),
        ("none", "has no variable 'none'; it has byte, double, "),
    ):
        with pytest.raises(InputError, match=message):
            open_source(f"{path}::{name}")
    with pytest.raises(InputError, match="has several variables: "):
        open_source(str(path))
    content = path.read_bytes()
    for end in (3, 20, 300, 5000, len(content) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(InputError, match=rf"{re.escape(str(path))} is not a netCDF file .*is truncated"):
            open_source(f"{path}::single")
    path.write_bytes(content[:4] + b"\xff" * 4 + content[8:])
    with pytest.raises(InputError, match="does not say how many records it has"):
        open_source(f"{path}::single")
    path.write_bytes(content)
    source = open_source(f"{path}::text")
    path.write_bytes(content[:-500])
    with pytest.raises(InputError, match="has become shorter while it was read"):
        source.read(NUM_ROWS - 1, NUM_ROWS)
    with netCDF4.Dataset(path, "w", format="NETCDF3_64BIT_DATA") as file:
        file.createDimension("row", 3)
        file.createVariable("x", "i8", ("row",))[:] = 1
    with pytest.raises(InputError, match=r"64-bit-data format \(CDF-5\).*nccopy -k nc4"):
        open_source(str(path))


def test_a_job_keeps_what_lies_beside(tmp_path: Path) -> None:
    write(tmp_path / "d.nc", FORMATS[0])
    command = ["--model", "zoo:Identity", "--data", "d.nc", "--columns", "single", "--keep", "wide,text"]
    outcome = predict_here(*command, "--skip", "3", "--output", "p.jsonl", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    last = (tmp_path / "p.jsonl").read_text().splitlines()[-1]
    assert f'"wide":{202 * 70_000},"text":"{TEXTS[-1]}"' in last
