"""Arrays of Zarr: text, fields, and what is refused."""

import warnings
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr
from array_files import CHUNK, NUM_ROWS, NUMBERS, RANGES, TEXTS

from runner.core.errors import InputError, UsageError
from runner.data.rows import RAGGED, TEXT, RowType
from runner.data.tensors import as_batch
from runner.sources import open_source


def test_zarr_text_fields_and_one_array(tmp_path: Path) -> None:
    for zarr_format in (2, 3):
        group = zarr.open_group(tmp_path / "d.zarr", mode="w", zarr_format=zarr_format)
        text = group.create_array("a/text", shape=(NUM_ROWS,), dtype=str, chunks=(CHUNK,))
        text[:] = np.array(TEXTS[:NUM_ROWS], dtype=object)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that format 3 does not specify these types
            group.create_array("a/wide", data=np.array(TEXTS[:NUM_ROWS]), chunks=(CHUNK,))
            group.create_array("bytes", data=np.array([b"x", b"yz"] * 3), chunks=(2,))
        group.create_array("dates", data=np.zeros(6, "M8[s]"))
        group.create_array("one", data=np.array(3.0))
        group.create_array("table of text", shape=(3, 2), dtype=str)
        path = f"{tmp_path}/d.zarr"
        for name in ("a/text", "a/wide"):
            source = open_source(f"{path}::{name}")
            assert source.row_type == RowType(RAGGED, TEXT)
            for start, stop in RANGES:
                assert as_batch(source.read(start, stop)) == TEXTS[start:stop]
        assert as_batch(open_source(f"{path}/::bytes").read(1, 4)) == ["yz", "x", "yz"]
        for name, message in {
            "dates": "is of dtype datetime64",
            "one": "is a single value",
            "table of text": "there must be one in each row",
            "a": "is a group, not an array; it has text, wide",
            "b": "has no array 'b'; it has a/text, a/wide, bytes",
        }.items():
            with pytest.raises(InputError, match=message):
                open_source(f"{path}::{name}")
        with pytest.raises(InputError, match="has several arrays: a/text, a/wide"):
            open_source(path)
        alone = zarr.create_array(tmp_path / "e.zarr", data=NUMBERS["big"], zarr_format=zarr_format, overwrite=True)
        assert np.array_equal(open_source(f"{tmp_path}/e.zarr/").read(1, 99), alone[1:99])
        with pytest.raises(UsageError, match="has no columns to choose x from"):
            open_source(f"{tmp_path}/e.zarr::x")
    fields = zarr.open_group(tmp_path / "f.zarr", mode="w", zarr_format=2).create_array(
        "x", shape=(9,), chunks=(4,), dtype=[("a", "u1"), ("b", ">f4")]
    )
    fields[:] = np.ones(9, fields.dtype)
    assert np.array_equal(open_source(f"{tmp_path}/f.zarr").read(3, 5), np.ones(2, [("a", "u1"), ("b", "f4")]))


def test_zarr_arrays_of_pickles_are_not_opened(tmp_path: Path) -> None:
    pickling = {"compressors": numcodecs.Pickle(), "filters": None, "zarr_format": 2}
    zarr.create_array(tmp_path / "d.zarr", data=np.arange(8.0), **pickling)
    with pytest.raises(InputError, match=r"d\.zarr is not a Zarr folder, or is damaged: .*'pickle'"):
        open_source(f"{tmp_path}/d.zarr")
