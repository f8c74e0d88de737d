"""AnnData in HDF5 and Zarr, as two versions of the library wrote it, against what the library reads of it."""

import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.sparse
import zarr
from launch import predict_here

from runner.core.errors import InputError, UsageError
from runner.data.rows import RAGGED, TEXT, RowType
from runner.data.tensors import as_batch
from runner.sources import ReadOptions, open_source

NUM_ROWS, NUM_GENES = 121, 37
RANGES = [(0, NUM_ROWS), (0, 1), (NUM_ROWS - 1, NUM_ROWS), (50, 90), (7, 7)]
FILES = ["new/plain.h5ad", "new/gzip.h5ad", "new/2.zarr", "new/3.zarr", "old/plain.h5ad", "old/gzip.h5ad"]
DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("anndata")
    with zipfile.ZipFile(DATA / "anndata.zip") as archive:
        archive.extractall(path)
    return path


def columns_of(path: Path) -> dict[str, list[Any]]:
    """Columns of `obs` as the library reads them."""
    columns: dict[str, list[Any]] = json.loads((path.parent / "expected.json").read_text())
    return columns


def assert_same(source: Any, expected: np.ndarray) -> None:
    assert source.num_rows == NUM_ROWS
    assert source.row_type == RowType(expected.shape[1:], expected.dtype)
    for start, stop in RANGES:
        rows = source.read(start, stop)
        assert rows.flags.c_contiguous
        np.testing.assert_array_equal(rows, expected[start:stop], strict=True)
    for start in range(0, NUM_ROWS, 16):
        np.testing.assert_array_equal(source.read(start, min(start + 16, NUM_ROWS)), expected[start : start + 16])


@pytest.mark.parametrize("name", FILES)
def test_any_rows_of_matrices_are_what_the_library_reads(name: str, folder: Path) -> None:
    path = folder / name
    with np.load(path.parent / "expected.npz") as matrices:
        for matrix, expected in matrices.items():
            assert_same(open_source(f"{path}::{matrix}"), expected)
        both = open_source(str(path), ["X", "obsm/X_pca"], ["obs/number", "obs_names"])
        assert both.row_type["obs_names"] == RowType(RAGGED, TEXT)  # type: ignore[index]
        rows = as_batch(both.read(30, 99))
        assert rows["obs_names"] == columns_of(path)["obs_names"][30:99]
        assert rows["obs/number"].tolist() == [*range(30, 99)]
        np.testing.assert_array_equal(rows["X"], matrices["X"][30:99])
    assert_same(open_source(str(path)), np.load(path.parent / "expected.npz")["X"])
    assert both.digest() == open_source(str(path), ["X", "obsm/X_pca"], ["obs/number", "obs_names"]).digest()


def test_behind_a_url(folder: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://anndata/d.h5ad", "wb") as file:
        file.write((folder / "new/plain.h5ad").read_bytes())
    sources = [
        open_source(where, ["X"], ["plain"]) for where in ("memory://anndata/d.h5ad", f"{folder}/new/plain.h5ad")
    ]
    assert sources[0].digest() == sources[1].digest()


@pytest.mark.parametrize("kind", [name for name in FILES if name.startswith("new")])
def test_nulls_of_observations(kind: str, folder: Path) -> None:
    path = f"{folder}/{kind}"
    assert open_source(f"{path}::count").read(0, 60).tolist() == [*range(60)]  # type: ignore[union-attr]
    for name, advice in (("count", "--null nan"), ("flag", "--on-error quarantine"), ("note", "--on-error")):
        with pytest.raises(InputError, match=rf"::{name}: row 60 is null\. .*{advice}"):
            open_source(f"{path}::{name}").read(55, 70)
    with pytest.raises(InputError, match="::kind: row 0 is null"):
        open_source(f"{path}::kind").read(0, 9)
    assert as_batch(open_source(f"{path}::kind").read(1, 4)) == ["B cell", "T cell", "größe"]
    numbers = open_source(f"{path}::count", options=ReadOptions(null_is_nan=True)).read(59, 62)
    np.testing.assert_array_equal(numbers, np.array([59, np.nan, 61]), strict=True)


@pytest.mark.parametrize("name", FILES)
def test_a_job_keeps_observations(name: str, folder: Path, tmp_path: Path) -> None:
    columns = columns_of(folder / name)
    command = ["--model", "zoo:Identity", "--data", f"{folder}/{name}", "--columns", "X", "--keep", ",".join(columns)]
    outcome = predict_here(*command, "--skip", "2", "--output", "p.parquet", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    table = pq.read_table(tmp_path / "p.parquet")
    assert {column: table[column].to_pylist() for column in columns} == {
        column: values[2:] for column, values in columns.items()
    }
    expected = np.load((folder / name).parent / "expected.npz")["X"][2:]
    np.testing.assert_array_equal(np.array(table["predictions"].to_pylist(), np.float32), expected)


def test_columns_of_csr_in_any_order_and_twice(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "d.h5ad"
    path.write_bytes((folder / "new/plain.h5ad").read_bytes())
    values = (np.arange(1, 7, dtype="f4"), np.array([4, 1, 1, 0, 2, 0]), np.array([0, 3, 3, 6]))
    with h5py.File(path, "r+") as file:
        for name, array in zip(("data", "indices", "indptr"), values, strict=True):
            del file[f"X/{name}"]
            file[f"X/{name}"] = array
        file["X"].attrs["shape"] = [3, 5]
    expected = scipy.sparse.csr_matrix(values, (3, 5)).toarray()
    np.testing.assert_array_equal(open_source(str(path)).read(0, 3), expected)


def test_what_has_no_rows_is_told(folder: Path, tmp_path: Path) -> None:
    path = f"{folder}/new/plain.h5ad"
    for name, message in (
        ("layers/by column", r"by columns \(CSC\).*d\.layers\['by column'\] = d\.layers\['by column'\]\.tocsr\(\)"),
        ("obsm/table", "is of the form 'dataframe', which has no rows"),
        ("var", "has no matrix or column 'var'; it has "),
    ):
        with pytest.raises(InputError, match=message):
            open_source(f"{path}::{name}")
    with h5py.File(tmp_path / "e.h5ad", "w") as file:
        file["X"] = np.zeros((3, 2))
        file["obs"] = np.zeros(3, [("kind", "i1")])  # of categories, which lie elsewhere
    assert open_source(f"{tmp_path}/e.h5ad").read(0, 3).shape == (3, 2)  # type: ignore[union-attr]
    for name in ("obs", "kind"):
        with pytest.raises(InputError, match=r"before 0\.7, of which X alone is read\. Write it anew"):
            open_source(f"{tmp_path}/e.h5ad::{name}")
    with pytest.raises(UsageError, match="--null is for tables, and these arrays have no null"):
        open_source(f"{tmp_path}/e.h5ad", options=ReadOptions(null_is_nan=True))


def test_damaged_files_are_named(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "d.h5ad"
    content = (folder / "new/plain.h5ad").read_bytes()
    for end in (0, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(InputError, match=re.escape(str(path))):
            open_source(str(path)).read(0, NUM_ROWS)
    for name, value, message in (
        ("indices", NUM_GENES, "a column is outside of 0 to 36"),
        ("indices", -1, "a column is outside of 0 to 36"),
        ("indptr", 10**6, "indptr leads from 0 to 1000000"),
    ):
        path.write_bytes(content)
        with h5py.File(path, "r+") as file:
            file[f"X/{name}"][-1] = value
        with pytest.raises(InputError, match=rf"d\.h5ad::X: rows 0 to {NUM_ROWS - 1} cannot be read: .*{message}"):
            open_source(str(path)).read(0, NUM_ROWS)
    with h5py.File(path, "r+") as file:
        del file["X/indptr"]
        file["X/indptr"] = np.zeros(3, "i8")
    with pytest.raises(InputError, match=r"damaged: a sparse matrix of shape \(121, 37\) has"):
        open_source(str(path))
    shutil.copytree(folder / "new/3.zarr", tmp_path / "d.zarr")
    (tmp_path / "d.zarr/X/data/c/0").unlink()
    source: Any = open_source(f"{tmp_path}/d.zarr")
    assert "::X: 1 of " in source.notes[0]
    assert zarr.open_group(tmp_path / "d.zarr", mode="r")["X/data"].nchunks >= 1
