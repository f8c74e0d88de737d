"""Data sets of HDF5: text, sequences, records, and what is refused."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from array_files import (
    CHUNK,
    FIELDS,
    NUM_ROWS,
    NUMBERS,
    RANGES,
    SEQUENCES,
    TEXTS,
    assert_same,
    write,
    write_hdf5,
    write_hdf5_of_all_types,
)
from launch import predict_here

from runner.core.errors import InputError, UsageError
from runner.data.rows import RAGGED, TEXT, Ragged, RowType, rows_checksum, take
from runner.data.tensors import as_batch
from runner.sources import open_source
from runner.sources.arrays import named


def test_a_large_data_set_is_digested_by_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "_WHOLE_BYTES", 1 << 10)
    monkeypatch.setattr(named, "_SAMPLED_BYTES", 1 << 10)
    digests = set()
    for place in (None, (0, 0), (NUM_ROWS - 1, 49)):
        array = np.zeros((NUM_ROWS, 50))
        if place:
            array[place] = 1
        digests.add(open_source(write("hdf5", tmp_path, {"x": array})).digest())
    assert len(digests) == 3


@pytest.mark.parametrize("held", [1 << 30, 1000])
def test_each_chunk_is_decoded_once_in_order(held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "_HELD_BYTES", held)
    path = write("hdf5", tmp_path)
    decoded: list[int] = []
    read = type(h5py.File(path)["images"]).__getitem__

    def noting(dataset: Any, rows: slice) -> Any:
        decoded.append(rows.stop - rows.start)
        return read(dataset, rows)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", noting)
    source = open_source(f"{path}::images")
    for start in range(0, NUM_ROWS, 50):
        stop = min(NUM_ROWS, start + 50)
        assert np.array_equal(source.read(start, stop), NUMBERS["images"][start:stop])
    assert sum(decoded) == NUM_ROWS
    assert max(decoded) == (CHUNK if held > 1000 else 50)


def test_hdf5_text_sequences_and_fields(tmp_path: Path) -> None:
    write_hdf5_of_all_types(tmp_path / "d.hdf5")
    for name, expected in {"text": TEXTS, "fixed": TEXTS, "sequences": SEQUENCES}.items():
        source = open_source(f"{tmp_path}/d.hdf5::{name}")
        assert source.row_type == RowType(RAGGED, np.dtype("i8") if name == "sequences" else TEXT)
        assert 4 < source.row_bytes < 30
        for start, stop in RANGES:
            rows = source.read(start, stop)
            assert isinstance(rows, Ragged)
            found = [row if isinstance(row, str) else row.tolist() for row in as_batch(rows)]
            assert found == [row if isinstance(row, str) else row.tolist() for row in expected[start:stop]]
    assert as_batch(open_source(f"{tmp_path}/d.hdf5::letters").read(0, 3)) == ["x", "", "x"]
    flags = open_source(f"{tmp_path}/d.hdf5::flags").read(2, 5)
    assert (flags.values.tolist(), flags.values.dtype, flags.offsets.tolist()) == ([True, False], "?", [0, 0, 2, 2])
    fields = open_source(f"{tmp_path}/d.hdf5::fields")
    assert fields.row_type == RowType((), np.dtype([("a", "u1"), ("b", "f8", (2,)), ("c", "?")]))
    found = as_batch(fields.read(3, 900))
    assert all(np.array_equal(found[name], FIELDS[name][3:900]) for name in "abc")
    assert rows_checksum(fields.read(3, 900)) == rows_checksum(take(fields.read(0, NUM_ROWS), range(3, 900)))
    assert_same(open_source(f"{tmp_path}/d.hdf5::choice").read(1, 3), np.array([1, 0], "i2"))
    assert_same(open_source(f"{tmp_path}/d.hdf5::vectors").read(1, 3), np.ones((2, 2, 3), "f4"))
    assert_same(open_source(f"{tmp_path}/d.hdf5::/group/inner").read(1, 3), np.array([1, 2]))


def test_hdf5_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.h5"
    write_hdf5_of_all_types(path)
    for name, message in {
        "one": "is a single value or empty",
        "nothing": "is a single value or empty",
        "pointers": "is of dtype object",
        "dates": "is of dtype datetime64",
        "long": "is of dtype float128",
        "table of text": r"is of shape \(1, 2\), of text; there must be one in each row",
        "turned": "byte order",
        "deep": "field 'x' of .* has fields itself",
        "group": "is a group, not a dataset; the file has choice, dates",
        "group/none": "has no dataset 'group/none'; it has choice, dates",
        "broken": "has no dataset 'broken'",
        "other file": "has no dataset 'other file'",
        "text/inner": "has no dataset 'text/inner'",
    }.items():
        with pytest.raises(InputError, match=message):
            open_source(f"{path}::{name}")
    with pytest.raises(InputError, match=r"d\.h5 has several datasets: choice, .*Choose one with .*::NAME"):
        open_source(str(path))
    with pytest.raises(InputError, match="must have equally many rows; these have text: 1009, choice: 3"):
        open_source(str(path), ["text", "choice"])


def test_hdf5_with_a_filter_that_is_not_there(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_chunk((10,))
        created.set_filter(40_000, h5py.h5z.FLAG_OPTIONAL)
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_INT32, h5py.h5s.create_simple((100,)), created)
    with pytest.raises(UsageError, match=r"filter 40000 .*hdf5plugin"):
        open_source(str(tmp_path / "d.h5"))


def test_hdf5_that_is_open_elsewhere(tmp_path: Path) -> None:
    path = str(tmp_path / "d.h5")
    write_hdf5(Path(path), {"x": NUMBERS["big"]})
    with h5py.File(path):  # in this process
        assert np.array_equal(open_source(path).read(0, 5), NUMBERS["big"][:5])
    holding = f"import h5py, sys; file = h5py.File({path!r}, 'r+'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:  # for writing, with a lock
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        assert np.array_equal(open_source(path).read(0, 5), NUMBERS["big"][:5])
        other.communicate("")


def test_hdf5_that_shrinks_is_an_error_and_no_zeros(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["x"] = np.ones((1000, 100))
    source = open_source(str(tmp_path / "d.h5"))
    os.truncate(tmp_path / "d.h5", 100_000)
    with pytest.raises(InputError, match="has become shorter"):
        source.read(900, 910)


def test_hdf5_that_is_removed_is_read_to_the_end(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "d.h5", {"x": NUMBERS["big"]})
    source = open_source(str(tmp_path / "d.h5"))
    (tmp_path / "d.h5").unlink()
    assert np.array_equal(source.read(900, 910), NUMBERS["big"][900:910])
    with pytest.raises(InputError, match="No such file"):
        source.stamp()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("text", ["--model", "zoo:Identity", "--preprocess", "array_files:lengths"]),
        ("sequences", ["--model", "array_files:Lengths"]),
    ],
)
def test_rows_of_unlike_lengths_are_predicted(name: str, options: list[str], tmp_path: Path) -> None:
    write_hdf5_of_all_types(tmp_path / "d.h5")
    outcome = predict_here(*options, "--data", f"d.h5::{name}", "--output", "p.npy", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    expected = [len(row) for row in (TEXTS[:NUM_ROWS] if name == "text" else SEQUENCES)]
    assert np.load(tmp_path / "p.npy").tolist() == expected


def test_fields_of_records_are_columns(tmp_path: Path) -> None:
    """Of tables with text, as PyTables and pandas write them, or where they are chosen."""
    records = np.array(
        [(7, (0.5, 1.5), b"a"), (8, (2.5, 3.5), b"bb")], [("id", "<i8"), ("x", ">f4", (2,)), ("name", "S3")]
    )
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["g/table"] = records
        file["numbers"] = records[["id", "x"]]
        file["other"] = np.array([1.5, 2.5])
    path = f"{tmp_path}/d.h5"
    found = as_batch(open_source(f"{path}::g/table").read(0, 2))
    assert found["id"].tolist() == [7, 8]
    assert found["x"].tolist() == [[0.5, 1.5], [2.5, 3.5]]
    assert found["name"] == ["a", "bb"]
    assert as_batch(open_source(f"{path}::g/table", ["name"]).read(1, 2)) == ["bb"]
    chosen = as_batch(open_source(f"{path}::g/table", ["x"], ["name"]).read(1, 2))
    assert (list(chosen), chosen["name"]) == (["x", "name"], ["bb"])
    whole = open_source(f"{path}::numbers").row_type
    assert isinstance(whole, RowType)
    assert whole.dtype.names == ("id", "x")
    assert open_source(f"{path}::numbers", ["id"]).read(0, 2).tolist() == [7, 8]  # type: ignore[union-attr]
    beside = open_source(f"{path}::numbers", [], ["other"]).read(0, 1)
    assert list(beside) == ["numbers", "other"]  # type: ignore[call-overload]
    with pytest.raises(InputError, match="has no field 'z'; it has id, x, name"):
        open_source(f"{path}::g/table", ["z"])
    with pytest.raises(UsageError, match="--columns and ::other cannot be combined"):
        open_source(f"{path}::other", ["numbers"])
