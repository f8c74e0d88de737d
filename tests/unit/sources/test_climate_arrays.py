"""Packed numbers and missing parts of HDF5 and Zarr: what they stand for, not what lies in the file."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from launch import predict_here

from runner.core.errors import InputError
from runner.sources import open_source

ROWS = np.array([[500, -32768, 0], [1, 2, 3], [-5, 700, -32768], [9, 9, 9]], np.int16)
VALUES = np.where(ROWS == -32768, np.nan, ROWS * 0.01 + 280.0)
PACKED = {"scale_factor": 0.01, "add_offset": 280.0, "_FillValue": np.int16(-32768)}
SINGLE = {"scale_factor": np.float32(0.5), "add_offset": np.float32(1), "missing_value": np.int16(-32768)}
IN_SINGLE = np.where(ROWS == -32768, np.float32(np.nan), ROWS.astype("f4") * np.float32(0.5) + np.float32(1))
CASES: dict[str, tuple[np.ndarray, dict[str, Any], np.ndarray]] = {
    "packed": (ROWS, PACKED, VALUES),
    "packed, big-endian": (ROWS.astype(">i2"), PACKED, VALUES),
    "packed in float32": (ROWS, SINGLE, IN_SINGLE),
    "a fill value alone": (ROWS, {"_FillValue": np.int16(-32768)}, np.where(ROWS == -32768, np.nan, ROWS).astype("f4")),
    "of wide integers": (
        np.array([1, -(2**63) + 2]),
        {"_FillValue": np.int64(-(2**63) + 2)},
        np.array([1.0, np.nan]),
    ),
    "floating point": (
        np.array([1, 1e20, 3], "f4"),
        {"missing_value": np.float32(1e20)},
        np.array([1, np.nan, 3], "f4"),
    ),
    "unsigned": (np.array([-1, 5], "i1"), {"_Unsigned": "true"}, np.array([255, 5], "u1")),
    "NaN": (np.array([1.0, np.nan]), {"_FillValue": np.nan}, np.array([1.0, np.nan])),
    "other attributes": (ROWS, {"units": "K", "valid_min": np.int16(0)}, ROWS),
}


def write_hdf5(path: Path, stored: np.ndarray, attributes: dict[str, Any]) -> str:
    with h5py.File(path / "d.h5", "w") as file:
        dataset = file.create_dataset("x", data=stored, chunks=(2, *stored.shape[1:]))
        for name, value in attributes.items():
            dataset.attrs[name] = value if isinstance(value, str) else np.atleast_1d(value)  # as netCDF-4 does
    return str(path / "d.h5::x")


def write_zarr(path: Path, stored: np.ndarray, attributes: dict[str, Any]) -> str:
    array = zarr.open_group(path / "d.zarr", mode="w").create_array("x", data=stored)
    array.attrs.update({name: value if isinstance(value, str) else value.item() for name, value in attributes.items()})
    return str(path / "d.zarr::x")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("write", [write_hdf5, write_zarr])
def test_packed_numbers_are_unpacked(write: Any, name: str, tmp_path: Path) -> None:
    stored, attributes, values = CASES[name]
    attributes = {key: value if isinstance(value, str) else np.asarray(value)[()] for key, value in attributes.items()}
    if write is write_zarr and name == "packed in float32":  # JSON has no float32
        values = np.where(ROWS == -32768, np.nan, ROWS * 0.5 + 1)
    source = open_source(write(tmp_path, stored, attributes))
    rows = source.read(0, len(stored))
    assert isinstance(rows, np.ndarray)
    assert rows.dtype == values.dtype == source.row_type.dtype
    np.testing.assert_array_equal(rows, values)
    np.testing.assert_array_equal(source.read(1, 2), values[1:2])


def test_the_forms_in_which_xarray_writes_fill_values_to_zarr(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "2.zarr", mode="w", zarr_format=2)
    array = group.create_array("x", data=ROWS, fill_value=-32768)
    array.attrs.update({"_ARRAY_DIMENSIONS": ["time", "x"], "scale_factor": 0.01, "add_offset": 280.0})
    group.create_array("plain", data=ROWS, fill_value=-32768)
    np.testing.assert_array_equal(open_source(f"{tmp_path}/2.zarr::x").read(0, 4), VALUES)
    np.testing.assert_array_equal(open_source(f"{tmp_path}/2.zarr::plain").read(0, 4), ROWS)
    array = zarr.open_group(tmp_path / "3.zarr", mode="w").create_array("x", data=np.array([1.0, -9.0]))
    array.attrs["_FillValue"] = "AAAAAAAAIsA="  # -9.0 in base64
    np.testing.assert_array_equal(open_source(f"{tmp_path}/3.zarr::x").read(0, 2), [1, np.nan])
    array.attrs["_FillValue"] = "none"
    with pytest.raises(InputError, match="attribute _FillValue is 'none', which is not a number"):
        open_source(f"{tmp_path}/3.zarr::x")


def test_a_virtual_dataset_needs_the_files_of_its_parts(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout((4, 3), "i2")
    for part in range(2):
        with h5py.File(tmp_path / f"{part}.h5", "w") as file:
            file["x"] = ROWS[2 * part : 2 * part + 2]
        layout[2 * part : 2 * part + 2] = h5py.VirtualSource(f"{part}.h5", "x", (2, 3))
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_virtual_dataset("x", layout, fillvalue=0)
    path = f"{tmp_path}/all.h5::x"
    source = open_source(path)
    np.testing.assert_array_equal(source.read(0, 4), ROWS)
    stamp = source.stamp()
    (tmp_path / "1.h5").unlink()
    with h5py.File(tmp_path / "1.h5", "w") as file:
        file["y"] = ROWS
    assert source.stamp() != stamp
    with pytest.raises(InputError, match=r"virtual dataset, and .*/1\.h5 has no x"):
        open_source(path)
    (tmp_path / "1.h5").unlink()
    with pytest.raises(InputError, match=r"1\.h5, which holds a part of it, is not there"):
        open_source(path)


def test_chunks_that_are_not_there_are_told(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "d.zarr", mode="w")
    group.create_array("x", data=np.ones((8, 3), "f4"), chunks=(2, 3))
    group.create_array("shards", data=np.ones((8, 4), "f4"), chunks=(2, 2), shards=(4, 4))
    for name in ("x", "shards"):
        assert open_source(f"{tmp_path}/d.zarr::{name}").notes == []  # type: ignore[attr-defined]
    (tmp_path / "d.zarr/x/c/1/0").unlink()
    (tmp_path / "d.zarr/shards/c/1/0").unlink()
    says = "1 of 4 chunks are not there, and are read as the fill value, 0.0"
    done = predict_here(
        "--model", "torch.nn:Identity", "--data", "d.zarr::x", "--weights", "none", "--output", "p.npy", folder=tmp_path
    )
    assert done.code == 0, done.output
    assert f"warning: --data d.zarr::x: {says}" in done.output
    assert "1 of 2 chunks are not" in open_source(f"{tmp_path}/d.zarr::shards").notes[0]  # type: ignore[attr-defined]
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("x", (8, 3), "f4", chunks=(2, 3))[:6] = 1
        file.create_dataset("y", (8, 3), "f4")
        file.create_dataset("z", data=np.zeros((8, 3)))
    notes = [open_source(f"{tmp_path}/d.h5::{name}").notes for name in "xyz"]  # type: ignore[attr-defined]
    assert says in notes[0][0]
    assert "::y was never written, and is read as its fill value, 0.0" in notes[1][0]
    assert notes[2] == []
    many = open_source([f"{tmp_path}/d.h5", f"{tmp_path}/d.h5"], ["x"])
    assert many.notes == notes[0] * 2  # type: ignore[attr-defined]
