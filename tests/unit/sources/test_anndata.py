"""AnnData in HDF5 and Zarr, written by the library, against what it reads."""

import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import zarr
from launch import predict_here

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of libraries that it imports
    import anndata

from runner.core.errors import InputError, UsageError
from runner.data.rows import RAGGED, TEXT, RowType
from runner.data.tensors import as_batch
from runner.sources import ReadOptions, open_source

pytestmark = pytest.mark.filterwarnings("ignore:.*infer_string")  # of anndata 0.12 with pandas 3
NUM_ROWS, NUM_GENES = 121, 37
RANGES = [(0, NUM_ROWS), (0, 1), (NUM_ROWS - 1, NUM_ROWS), (50, 90), (7, 7)]
KINDS = ["h5ad", "2.zarr", "3.zarr"]


def make() -> anndata.AnnData:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows, rng = range(NUM_ROWS), np.random.default_rng(0)
        kinds = [[None, "B cell", "T cell", "größe"][row % 4] for row in rows]
        observations = pd.DataFrame(
            {
                "kind": pd.Categorical(kinds),
                "batch": pd.Categorical([[10, 20, 5][row % 3] for row in rows]),
                "depth": rng.normal(size=NUM_ROWS),
                "number": np.arange(NUM_ROWS),
                "good": np.arange(NUM_ROWS) % 3 == 0,
                "count": pd.array([None if row == 60 else row for row in rows], dtype="Int32"),
                "flag": pd.array([None if row == 60 else row % 2 == 0 for row in rows], dtype="boolean"),
                "note": pd.array([None if row == 60 else f"n{row}" for row in rows], dtype="string"),
                "plain": np.array([f"p{row}" for row in rows], object),
            },
            index=[f"cell {row}" for row in rows],
        )
        matrix = scipy.sparse.random(NUM_ROWS, NUM_GENES, 0.2, "csr", np.float32, rng=rng)
        matrix[50:60] = 0
        matrix.eliminate_zeros()
        data = anndata.AnnData(matrix, observations)
        data.layers["counts"] = rng.integers(0, 9, (NUM_ROWS, NUM_GENES))
        data.layers["by column"] = scipy.sparse.csc_matrix(matrix)
        data.obsm["X_pca"] = rng.normal(size=(NUM_ROWS, 3))
        data.obsm["table"] = pd.DataFrame({"a": np.arange(NUM_ROWS)}, index=observations.index)
        data.obsm["sparse"] = scipy.sparse.csr_matrix(np.eye(NUM_ROWS))
        data.raw = data.copy()
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, data = tmp_path_factory.mktemp("anndata"), make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        anndata.settings.allow_write_nullable_strings = True
        data.write_h5ad(path / "d.h5ad")
        data.write_h5ad(path / "gzip.h5ad", compression="gzip")
        for form in (2, 3):
            anndata.settings.zarr_write_format = form
            data.write_zarr(path / f"d.{form}.zarr", chunks=(40, 20))
        anndata.settings.reset(["zarr_write_format", "allow_write_nullable_strings"])
    return path


def assert_same(source: Any, expected: Any) -> None:
    expected = expected.toarray() if hasattr(expected, "toarray") else np.asarray(expected)
    assert source.num_rows == NUM_ROWS
    assert source.row_type == RowType(expected.shape[1:], expected.dtype)
    for start, stop in RANGES:
        rows = source.read(start, stop)
        assert rows.flags.c_contiguous
        np.testing.assert_array_equal(rows, expected[start:stop], strict=True)
    for start in range(0, NUM_ROWS, 16):
        np.testing.assert_array_equal(source.read(start, min(start + 16, NUM_ROWS)), expected[start : start + 16])


@pytest.mark.parametrize("kind", ["h5ad", "gzip.h5ad", "2.zarr", "3.zarr"])
def test_any_rows_of_matrices_are_what_the_library_reads(kind: str, folder: Path) -> None:
    path = f"{folder}/{kind if kind.startswith('gzip') else f'd.{kind}'}"
    data = anndata.read_h5ad(path) if kind.endswith("h5ad") else anndata.read_zarr(path)
    assert_same(open_source(path), data.X)
    assert_same(open_source(f"{path}::layers/counts"), data.layers["counts"])
    assert_same(open_source(f"{path}::obsm/X_pca"), data.obsm["X_pca"])
    assert_same(open_source(f"{path}::obsm/sparse"), data.obsm["sparse"])
    assert_same(open_source(f"{path}::raw/X"), data.raw.X)
    for name in ("depth", "number", "good"):
        assert_same(open_source(f"{path}::{name}"), data.obs[name].to_numpy())
    assert_same(open_source(f"{path}::obs/batch"), data.obs["batch"].astype(int).to_numpy())
    both = open_source(path, ["X", "obsm/X_pca"], ["plain", "obs_names"])
    assert both.row_type["plain"] == RowType(RAGGED, TEXT)  # type: ignore[index]
    rows = as_batch(both.read(30, 99))
    assert rows["obs_names"] == data.obs_names[30:99].tolist()
    assert rows["plain"] == data.obs["plain"][30:99].tolist()
    np.testing.assert_array_equal(rows["X"], data.X[30:99].toarray())
    assert both.digest() == open_source(path, ["X", "obsm/X_pca"], ["plain", "obs_names"]).digest()


@pytest.mark.parametrize("kind", KINDS)
def test_nulls_of_observations(kind: str, folder: Path) -> None:
    path = f"{folder}/d.{kind}"
    assert open_source(f"{path}::count").read(0, 60).tolist() == [*range(60)]  # type: ignore[union-attr]
    for name, advice in (("count", "--null nan"), ("flag", "--on-error quarantine"), ("note", "--on-error")):
        with pytest.raises(InputError, match=rf"::{name}: row 60 is null\. .*{advice}"):
            open_source(f"{path}::{name}").read(55, 70)
    with pytest.raises(InputError, match="::kind: row 0 is null"):
        open_source(f"{path}::kind").read(0, 9)
    assert as_batch(open_source(f"{path}::kind").read(1, 4)) == ["B cell", "T cell", "größe"]
    numbers = open_source(f"{path}::count", options=ReadOptions(null_is_nan=True)).read(59, 62)
    np.testing.assert_array_equal(numbers, np.array([59, np.nan, 61]), strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_keeps_observations(kind: str, folder: Path, tmp_path: Path) -> None:
    names = ["kind", "batch", "depth", "number", "good", "count", "flag", "note", "plain", "obs_names"]
    command = ["--model", "zoo:Identity", "--data", f"{folder}/d.{kind}", "--columns", "X", "--keep", ",".join(names)]
    outcome = predict_here(*command, "--output", "p.parquet", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    table, data = pd.read_parquet(tmp_path / "p.parquet"), make()
    for name in names:
        expected = data.obs_names.to_series() if name == "obs_names" else data.obs[name]
        assert [None if pd.isna(value) else value for value in table[name]] == [
            None if pd.isna(value) else value for value in expected
        ], name
    np.testing.assert_array_equal(np.stack(table["predictions"].tolist()), data.X.toarray())


def test_columns_of_csr_in_any_order_and_twice(tmp_path: Path) -> None:
    matrix = scipy.sparse.csr_matrix(
        (np.arange(1, 7, dtype="f4"), np.array([4, 1, 1, 0, 2, 0]), np.array([0, 3, 3, 6])), (3, 5)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with anndata.settings.override(allow_write_nullable_strings=True):
            anndata.AnnData(matrix).write_h5ad(tmp_path / "d.h5ad")
    np.testing.assert_array_equal(open_source(f"{tmp_path}/d.h5ad").read(0, 3), matrix.toarray())


def test_what_has_no_rows_is_told(folder: Path, tmp_path: Path) -> None:
    path = f"{folder}/d.h5ad"
    for name, message in (
        ("layers/by column", r"by columns \(CSC\).*d\.layers\['by column'\] = d\.layers\['by column'\]\.tocsr\(\)"),
        ("obsm/table", "is of the form 'dataframe', which has no rows"),
        ("var", "has no matrix or column 'var'; it has "),
    ):
        with pytest.raises(InputError, match=message):
            open_source(f"{path}::{name}")
    with h5py.File(tmp_path / "e.h5ad", "w") as file:
        file["X"] = np.zeros((3, 2))
    with pytest.raises(UsageError, match="--null is for tables, and these arrays have no null"):
        open_source(f"{tmp_path}/e.h5ad", options=ReadOptions(null_is_nan=True))


def test_the_categories_of_anndata_07(tmp_path: Path) -> None:
    """As it wrote them: by a reference from the codes."""
    with h5py.File(tmp_path / "d.h5ad", "w") as file:
        file["X"] = np.arange(6.0).reshape(3, 2)
        observations = file.create_group("obs")
        observations.attrs.update({"encoding-type": "dataframe", "_index": "index", "column-order": ["kind"]})
        observations["index"] = ["a", "b", "c"]
        observations["__categories/kind"] = ["x", "y"]
        observations["kind"] = np.array([1, 0, 1], "i1")
        observations["kind"].attrs["categories"] = observations["__categories/kind"].ref
    rows = as_batch(open_source(f"{tmp_path}/d.h5ad", ["X"], ["kind", "obs_names"]).read(0, 3))
    assert rows["kind"] == ["y", "x", "y"]
    assert rows["obs_names"] == ["a", "b", "c"]


def test_damaged_files_are_named(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "d.h5ad"
    content = (folder / "d.h5ad").read_bytes()
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
    shutil.copytree(folder / "d.3.zarr", tmp_path / "d.zarr")
    (tmp_path / "d.zarr/X/data/c/0").unlink()
    source: Any = open_source(f"{tmp_path}/d.zarr")
    assert "::X: 1 of " in source.notes[0]
    assert zarr.open_group(tmp_path / "d.zarr", mode="r")["X/data"].nchunks >= 1
