"""Columns of lists: arrays where all rows are of one length, as pandas, Datasets and Ray write them."""

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from launch import predict_here
from torch import nn

from runner.core.errors import InputError
from runner.data.rows import RAGGED, Ragged, RowType
from runner.sources import ReadOptions, open_source

VECTORS = np.random.default_rng(0).normal(size=(50, 4)).astype("f4")
IMAGES = np.arange(50 * 6, dtype="i8").reshape(50, 2, 3)


def assert_arrays(path: str, expected: np.ndarray) -> Any:
    source = open_source(path)
    assert source.row_type == RowType(expected.shape[1:], expected.dtype)
    for start, stop in ((0, len(expected)), (19, 41), (7, 7)):
        rows = source.read(start, stop)
        assert isinstance(rows, np.ndarray)
        assert np.array_equal(rows, expected[start:stop])
    return source


@pytest.mark.parametrize("expected", [VECTORS, IMAGES], ids=["vectors", "nested"])
@pytest.mark.parametrize("kind", ["pandas", "large", "save_to_disk", "datasets"])
def test_lists_of_one_length_are_arrays(kind: str, expected: np.ndarray, tmp_path: Path) -> None:
    path, lists = tmp_path / "d.parquet", expected.tolist()
    if kind == "pandas":
        pd.DataFrame({"v": list(expected) if expected.ndim == 2 else lists}).to_parquet(path, row_group_size=20)
    elif kind == "large":
        inner = pa.large_list(pa.float32()) if expected.ndim == 2 else pa.large_list(pa.list_(pa.int64()))
        pa.parquet.write_table(pa.table({"v": pa.array(lists, inner)}), path, row_group_size=20)
    else:
        inside: Any = datasets.Value(str(expected.dtype))
        for _ in expected.shape[1:]:
            inside = datasets.List(inside)
        table = datasets.Dataset.from_dict({"v": lists}, datasets.Features({"v": inside}))
        if kind == "datasets":
            table.to_parquet(str(path))
        else:
            path = tmp_path / "d"
            table.save_to_disk(str(path))
    assert_arrays(f"{path}::v", expected)


def test_a_model_gets_them_as_one_tensor(tmp_path: Path) -> None:
    pd.DataFrame({"v": list(VECTORS)}).to_parquet(tmp_path / "d.parquet")
    command = ["--model", "torch.nn:Linear", "--model-args", json.dumps({"in_features": 4, "out_features": 2})]
    outcome = predict_here(*command, "--data", "d.parquet", "--output", "p.npy", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    assert np.load(tmp_path / "p.npy").shape == (50, 2)


class WithMask(nn.Module):
    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (tokens * mask).sum(dim=1)


class OfTwo(nn.Module):
    def forward(self, tokens: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        return (tokens * there).sum(dim=1)


def test_a_model_that_needs_a_mask_gets_one(tmp_path: Path) -> None:
    pd.DataFrame({"t": [[1, 2, 3], [4, 5, 6]]}).to_parquet(tmp_path / "d.parquet")
    for model, options in (("WithMask", []), ("OfTwo", ["--types", "t=list"])):
        command = ["--model", f"test_list_columns:{model}", "--data", "d.parquet::t", "--output", f"{model}.npy"]
        outcome = predict_here(*command, *options, folder=tmp_path)
        assert outcome.code == 0, outcome.output
        assert np.load(tmp_path / f"{model}.npy").tolist() == [6, 15]
    outcome = predict_here(*command, "--overwrite", folder=tmp_path)
    assert (outcome.code, "which all have one length: --types NAME=list" in outcome.output) == (65, True), (
        outcome.output
    )


def test_lists_of_unlike_lengths_are_not(tmp_path: Path) -> None:
    path = str(tmp_path / "d.parquet")
    lists = [[1.0, 2.0]] * 49 + [[1.0, 2.0, 3.0]]
    pd.DataFrame({"v": lists}).to_parquet(path, row_group_size=20)
    source = open_source(path)
    assert source.row_type == RowType(RAGGED, np.dtype("f8"))
    # as many values as if all were alike, which the first rows are
    pd.DataFrame({"v": [[1.0, 2.0]] * 1200 + [[1.0], [1.0, 2.0, 3.0]]}).to_parquet(path)
    source = open_source(path)
    assert source.row_type == RowType((2,), np.dtype("f8"))
    says = r"row 1200 of column 'v' holds a list of 1, where those before have 2.*--types v=list"
    with pytest.raises(InputError, match=says):
        source.read(1190, 1202)
    assert source.read(1190, 1200).shape == (10, 2)  # type: ignore[union-attr]
    rows = open_source(path, options=ReadOptions(types={"v": "list"})).read(1199, 1202)
    assert isinstance(rows, Ragged)
    assert rows.lengths.tolist() == [2, 1, 3]
    assert open_source(path, options=ReadOptions(types={"v": "list"})).digest() != source.digest()


def test_a_null_among_arrays_is_a_bad_row(tmp_path: Path) -> None:
    path = str(tmp_path / "d.parquet")
    pa.parquet.write_table(pa.table({"v": [[1.0, 2.0], None, [3.0, None]]}), path)
    source = open_source(path)
    assert source.row_type == RowType((2,), np.dtype("f8"))
    with pytest.raises(InputError, match="row 1 of column 'v' is null"):
        source.read(0, 2)
    with pytest.raises(InputError, match=r"a value of column 'v' in row 2 is null.*--null nan"):
        source.read(2, 3)
    rows = open_source(path, options=ReadOptions(null_is_nan=True)).read(2, 3)
    np.testing.assert_array_equal(rows, [[3, np.nan]])


def test_shapes_of_tensors_are_in_their_types_or_their_metadata(tmp_path: Path) -> None:
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(IMAGES)
    flat = pa.array(IMAGES.reshape(50, 6).tolist())
    ray = {"ARROW:extension:name": "ray.data.arrow_tensor", "ARROW:extension:metadata": "[2, 3]"}
    columns = {"arrow": tensors, "ray": flat}
    fields = [pa.field("arrow", tensors.type), pa.field("ray", flat.type, metadata=ray)]
    pa.parquet.write_table(pa.table(columns, pa.schema(fields)), tmp_path / "d.parquet", row_group_size=20)
    assert_arrays(f"{tmp_path}/d.parquet::arrow", IMAGES)
    assert_arrays(f"{tmp_path}/d.parquet::ray", IMAGES)
    features = datasets.Features({"x": datasets.Array2D((2, 3), "int64")})
    datasets.Dataset.from_dict({"x": IMAGES.tolist()}, features).to_parquet(str(tmp_path / "h.parquet"))
    assert_arrays(f"{tmp_path}/h.parquet::x", IMAGES)


def test_null_in_numbers_is_nan_on_request(tmp_path: Path) -> None:
    """As pandas writes what is missing."""
    frame = pd.DataFrame({"x": [1.5, np.nan, 2.5], "n": pd.array([1, None, 3], "Int16"), "whole": [1, 2, 3]})
    frame.to_parquet(tmp_path / "d.parquet")
    with pytest.raises(InputError, match=r"row 1 of column 'x' is null. Read nulls as NaN with --null nan"):
        open_source(f"{tmp_path}/d.parquet::x").read(0, 3)
    rows = open_source(f"{tmp_path}/d.parquet", options=ReadOptions(null_is_nan=True)).read(0, 3)
    assert isinstance(rows, dict)
    np.testing.assert_array_equal(rows["x"], [1.5, np.nan, 2.5])
    np.testing.assert_array_equal(rows["n"], [1, np.nan, 3])
    assert rows["whole"].dtype == np.dtype("i8")  # type: ignore[union-attr]


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    table = pa.table([pa.array([1]), pa.array([2]), pa.array([3])], names=["a", "b", "a"])
    pa.parquet.write_table(table, tmp_path / "d.parquet")
    with pytest.raises(InputError, match="has 2 columns named 'a'"):
        open_source(f"{tmp_path}/d.parquet")
    assert open_source(f"{tmp_path}/d.parquet::b").read(0, 1).tolist() == [2]  # type: ignore[union-attr]
