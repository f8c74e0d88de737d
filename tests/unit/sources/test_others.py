"""Files that other programs have written: pandas, Spark."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import scipy.io
from launch import LAUNCHERS, TESTS, predict_command, predict_here, run

from runner.core.errors import InputError, UsageError
from runner.data.tensors import as_batch
from runner.sources import open_source

NUM_ROWS = 1003
SPARK = TESTS / "data/spark"


def test_a_folder_that_spark_wrote() -> None:
    source = open_source(str(SPARK), ["id", "x", "name", "v", "tokens", "kind"])
    assert source.num_rows == NUM_ROWS
    for start, stop in ((0, NUM_ROWS), (333, 336), (NUM_ROWS - 1, NUM_ROWS)):
        found, ids = as_batch(source.read(start, stop)), range(start, stop)
        assert found["id"].tolist() == list(ids)
        assert found["x"].tolist() == [row * 0.5 for row in ids]
        assert found["name"] == [f"row {row}" for row in ids]
        assert found["kind"] == ["odd" if row % 2 else "even" for row in ids]
        assert [row.tolist() for row in found["v"]] == [[row, row + 1, row + 2] for row in ids]
        assert [row.tolist() for row in found["tokens"]] == [[x * 1.5 for x in range(row % 5 + 1)] for row in ids]


@pytest.mark.launch
def test_its_nulls_are_bad_rows(tmp_path: Path) -> None:
    command = ["--model", "zoo:Identity", "--data", f"{SPARK}::gaps", "--output", "p.npy", "--on-error", "quarantine"]
    outcome = run(predict_command(*command, launcher=LAUNCHERS["mpirun-2"]), tmp_path)
    assert outcome.code == 0, outcome.output
    bad = [json.loads(line)["row"] for line in (tmp_path / "p.npy.run/quarantine.jsonl").read_text().splitlines()]
    assert bad == list(range(7, NUM_ROWS, 100))
    found = np.load(tmp_path / "p.npy")
    assert np.array_equal(np.delete(found, bad), np.delete(np.arange(NUM_ROWS), bad))


@pytest.mark.parametrize("rows_a_group", [1, 97, NUM_ROWS * 2])
def test_what_pandas_writes(rows_a_group: int, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "small": np.arange(NUM_ROWS, dtype=np.int16),
            "category": pd.Categorical([f"kind {row % 3}" for row in range(NUM_ROWS)]),
            "number": pd.Series(range(NUM_ROWS), dtype="Int64"),  # with a mask of its own
            "deep": [[[row, 1], [2, row]] for row in range(NUM_ROWS)],
            "when": pd.date_range("2026-01-01", periods=NUM_ROWS),
        }
    )
    frame = frame.set_index(frame["small"] * 2)  # kept as one more column
    path = tmp_path / "d.parquet"
    frame.to_parquet(path, row_group_size=rows_a_group)
    source = open_source(str(path), ["small", "category", "number"])
    found = as_batch(source.read(96, 300))
    assert found["small"].tolist() == list(range(96, 300))
    assert found["category"] == [f"kind {row % 3}" for row in range(96, 300)]
    assert found["number"].tolist() == list(range(96, 300))
    deep = open_source(f"{path}::deep").read(3, 5)
    assert deep.tolist() == [[[row, 1], [2, row]] for row in (3, 4)]  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"column 'when' is of type timestamp.*--keep passes columns of any type"):
        open_source(f"{path}::when")


def test_dictionaries_of_numbers_and_large_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "code": pa.array([1.5, 2.5, 1.5] * 10).dictionary_encode(),
            "text": pa.array(["ä", "", "three"] * 10, pa.large_string()),
            "nested": pa.array([[[1, 2]], [[3, 4]], [[5, 6]]] * 10, pa.list_(pa.list_(pa.int32(), 2), 1)),
        }
    )
    pa.parquet.write_table(table, tmp_path / "d.parquet", row_group_size=7)
    found = as_batch(open_source(str(tmp_path / "d.parquet")).read(5, 9))
    assert found["code"].tolist() == [1.5, 1.5, 2.5, 1.5]
    assert found["text"] == ["three", "ä", "", "three"]
    assert found["nested"].tolist() == [[[5, 6]], [[1, 2]], [[3, 4]], [[5, 6]]]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "h5", "parquet", "feather", "npy"])
def test_shards_are_the_data_of_the_next_job(suffix: str, tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.arange(10.0))
    command = ["--model", "zoo:Identity", "--data", "d.npy", "--batch-size", "2", "--chunk-size", "2"]
    outcome = predict_here(*command, "--collect", "shards", "--output", f"p.{suffix}", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    source = open_source(f"{tmp_path}/p.{suffix}")
    assert source.num_rows == 10
    assert source.read(3, 9).tolist() == [3, 4, 5, 6, 7, 8]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("d.npy.gz", "cannot be read in place. Decompress it: gunzip -k {path}"),
        ("d.tgz", "Decompress it: gunzip -k {path}"),
        ("d.parquet.zst", "Decompress it: unzstd {path}"),
        ("d.orc", "pyarrow.parquet.write_table(pyarrow.orc.read_table(FILE), 'rows.parquet')"),
        ("d.json", "rename it to end in .jsonl"),
        ("d.avro", "Write it to Parquet"),
        ("d.xlsx", "Write it to Parquet"),
        ("d.nii.gz", "A class of yours of a few lines reads it"),
        ("d.db", "sqlite:///FILE::TABLE"),
        ("d.PARQUET", "Suffixes are in small letters: rename it"),
    ],
)
def test_files_of_other_formats_are_told_what_to_do(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(UsageError) as caught:
        open_source(str(tmp_path / name))
    assert says.format(path=tmp_path / name) in str(caught.value)


def test_folders_of_streaming_libraries_are_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(json.dumps({"version": 2, "shards": []}))
    with pytest.raises(InputError, match=r"a folder of a streaming library.*--data module:function"):
        open_source(str(tmp_path))


def test_arrays_of_matlab_are_not_read_along_the_wrong_axis(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["x"] = np.zeros((3, 10))  # of a matrix of 10 rows
        file["x"].attrs["MATLAB_class"] = np.bytes_("double")
    with pytest.raises(InputError, match=r"written by MATLAB, which stores the axes in reverse.*end in \.mat"):
        open_source(f"{tmp_path}/d.h5::x")


def test_files_under_the_suffix_of_another_format_are_told_what_they_are(tmp_path: Path) -> None:
    with scipy.io.netcdf_file(tmp_path / "d.nc", "w") as file:
        file.createDimension("row", 3)
        file.createVariable("x", "f4", ("row",))[:] = 1.0
    np.save(tmp_path / "d.npy", np.ones(3))
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["x"] = np.ones(3)
    says = {
        ("d.nc", "d.h5"): r"netCDF of version 3, which is read from local files that end in \.nc",
        ("d.npy", "d.parquet"): r"By its first bytes it is an array of numpy\.save: rename it to end in \.npy",
        ("d.h5", "d.npz"): r"is not a \.npz file: .*By its first bytes it is HDF5: rename it to end in \.h5",
        ("d.h5", "d.npy"): r"By its first bytes it is HDF5",
    }
    for (written, read), message in says.items():
        (tmp_path / "x").mkdir()
        with pytest.raises(InputError, match=message):
            open_source(str(shutil.copy(tmp_path / written, tmp_path / "x" / read)))
        shutil.rmtree(tmp_path / "x")


def test_hdf5_under_the_suffixes_of_its_users(tmp_path: Path) -> None:
    for suffix in ("nc", "h5ad", "he5"):
        with h5py.File(tmp_path / f"d.{suffix}", "w") as file:
            file["X"] = np.arange(6.0).reshape(3, 2)
        assert open_source(f"{tmp_path}/d.{suffix}").read(1, 3).tolist() == [[2, 3], [4, 5]]  # type: ignore[union-attr]
