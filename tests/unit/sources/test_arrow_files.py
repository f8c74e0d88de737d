"""Arrow files and Feather: the rows of a Parquet file with the same table, compressed or not; refusals."""

import os
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from launch import predict_here
from PIL import Image

from runner.core.errors import InputError
from runner.data.cells import from_cells
from runner.data.rows import RAGGED, Column, Ragged, RowType, RowTypes
from runner.sources import ReadOptions, base, open_source

NUM_ROWS = 300
VECTORS = np.random.default_rng(0).normal(size=(NUM_ROWS, 4)).astype("f4")
ROWS = range(NUM_ROWS)
NUMBERED = {
    "x": pa.array(VECTORS[:, 0]),
    "flag": pa.array([i % 2 == 0 for i in ROWS]),
    "vector": pa.array(list(VECTORS)),
    "fixed": pa.FixedSizeListArray.from_arrays(pa.array(VECTORS.reshape(-1)), 4),
    "nested": pa.array([[[i, 1, 2], [3, 4, 5]] for i in ROWS]),
    "tokens": pa.array([list(range(i % 5)) for i in ROWS]),
    "text": pa.array([f"é{i}" for i in ROWS]),
    "view": pa.array([f"too long to stand in the view itself: {i}" for i in ROWS], pa.string_view()),
    "category": pa.array([f"k{i % 7}" for i in ROWS]).dictionary_encode(),
}
KEPT = {
    "id": pa.array(ROWS),
    "null": pa.array([None if i % 9 == 0 else i for i in ROWS], pa.int16()),
    "struct": pa.array([{"a": i, "b": [str(i)] * (i % 3)} for i in ROWS]),
    "map": pa.array([[(str(i), i)] for i in ROWS], pa.map_(pa.string(), pa.int64())),
    "nothing": pa.nulls(NUM_ROWS),
    "day": pa.array(ROWS, pa.int32()).cast(pa.date32()),
}
TABLE = pa.table({**NUMBERED, **KEPT})
COMPRESSIONS = ("uncompressed", "lz4", "zstd")


def as_lists(column: Column) -> Any:
    if isinstance(column, np.ndarray):
        return column.tolist()
    return [column.values[a:b].tobytes() for a, b in zip(column.offsets[:-1], column.offsets[1:], strict=True)]


def row_type_of(row_types: RowTypes, name: str) -> RowType:
    assert isinstance(row_types, dict)
    found: RowType = row_types[name]
    return found


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_rows_are_those_of_parquet(compression: Any, tmp_path: Path) -> None:
    pa.parquet.write_table(TABLE, tmp_path / "d.parquet", row_group_size=70)
    pa.feather.write_feather(TABLE, tmp_path / "d.feather", compression=compression, chunksize=70)
    options = ReadOptions(cells=list(KEPT))
    paths = [f"{tmp_path}/d.feather", f"{tmp_path}/d.parquet"]
    found, wanted = (open_source(path, list(NUMBERED), list(KEPT), None, options) for path in paths)
    assert found.num_rows == NUM_ROWS
    assert row_type_of(found.row_type, "nested") == RowType((2, 3), np.dtype("i8"))
    assert row_type_of(found.row_type, "tokens") == RowType(RAGGED, np.dtype("i8"))
    for name in NUMBERED:
        assert row_type_of(found.row_type, name) == row_type_of(wanted.row_type, name)
    for start, stop in ((0, NUM_ROWS), (5, 200), (69, 71), (299, 300), (70, 140), (7, 7)):
        rows, others = found.read(start, stop), wanted.read(start, stop)
        assert isinstance(rows, dict)
        assert isinstance(others, dict)
        for name in NUMBERED:
            assert as_lists(rows[name]) == as_lists(others[name]), (name, start)
        for name in KEPT if stop > start else ():
            cells = rows[name]
            assert isinstance(cells, Ragged)
            assert from_cells(cells).to_pylist() == TABLE[name][start:stop].to_pylist(), (name, start)


def test_one_batch_without_a_bound_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = TABLE.drop_columns(["view"])  # whose buffers are of any number
    with pa.ipc.new_file(tmp_path / "d.arrow", table.schema) as file:
        file.write_table(table)
    pa.feather.write_feather(table, tmp_path / "c.ipc", compression="zstd")
    assert open_source(f"{tmp_path}/d.arrow::fixed").row_bytes == 16
    assert open_source(f"{tmp_path}/c.ipc::x").row_bytes == open_source(f"{tmp_path}/d.arrow::x").row_bytes
    monkeypatch.setattr(base, "_DECODED_BYTES", 20_000)
    rows = open_source(f"{tmp_path}/d.arrow::vector").read(10, 200)
    assert np.array_equal(rows, VECTORS[10:200])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"record batches of .* when decoded.*write_feather\(.*chunksize="):
        open_source(f"{tmp_path}/c.ipc::x")


def test_null_types_and_lists(tmp_path: Path) -> None:
    path = f"{tmp_path}/d.feather"
    lists = [[1.0, 2.0]] * 1200 + [[1.0], [1.0, 2.0, 3.0]]
    frame = pd.DataFrame({"n": pd.array([1, None, *range(1200)], "Int16"), "whole": range(1202), "v": lists})
    frame.to_feather(path)
    with pytest.raises(InputError, match=r"row 1 of column 'n' is null\. Read nulls as NaN with --null nan"):
        open_source(f"{path}::n").read(0, 3)
    pa.feather.write_feather(pa.table({"v": [[1, 2], [None, 3]]}), tmp_path / "inside.feather")
    inside = open_source(f"{tmp_path}/inside.feather::v", options=ReadOptions(null_is_nan=True)).read(0, 2)
    np.testing.assert_array_equal(inside, [[1, 2], [np.nan, 3]])  # type: ignore[arg-type]
    rows = open_source(path, ["n", "whole"], options=ReadOptions(null_is_nan=True)).read(0, 3)
    assert isinstance(rows, dict)
    np.testing.assert_array_equal(rows["n"], [1, np.nan, 0])  # type: ignore[arg-type]
    assert rows["whole"].dtype == np.dtype("i8")  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"row 1200 of column 'v' holds a list of 1.*--types v=list"):
        open_source(f"{path}::v").read(1190, 1202)
    ragged = open_source(path, ["v"], options=ReadOptions(types={"v": "list"})).read(1199, 1202)
    assert isinstance(ragged, Ragged)
    assert ragged.lengths.tolist() == [2, 1, 3]
    cast = open_source(path, ["whole"], options=ReadOptions(types={"whole": "float32"})).read(0, 2)
    assert cast.dtype == np.dtype("f4")  # type: ignore[union-attr]


def test_several_files_are_one_data_set(tmp_path: Path) -> None:
    for part, values in enumerate(([1, 2, 3], [], [0.5])):
        kind = pa.float64() if part == 2 else pa.int64()
        ids = pa.array([f"{part}-{row}" for row in range(len(values))], pa.string())
        table = pa.table({"id": ids, "x": pa.array(values, kind)})
        pa.feather.write_feather(table, tmp_path / f"part-{part}.feather")
    rows = open_source(f"{tmp_path}/part-*.feather::x").read(1, 4)
    assert isinstance(rows, np.ndarray)
    assert (rows.tolist(), rows.dtype) == ([2, 3, 0.5], np.dtype("f8"))
    kept = open_source(f"{tmp_path}/part-*.feather", ["x"], ["id"]).read(2, 4)
    assert isinstance(kept, dict)
    assert as_lists(kept["id"]) == [b"0-2", b"2-0"]


def test_images(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), (1, 2, 3)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    pa.feather.write_feather(pa.table({"image": [{"bytes": content, "path": None}] * 3}), tmp_path / "d.feather")
    rows = open_source(f"{tmp_path}/d.feather::image").read(1, 3)
    assert isinstance(rows, np.ndarray)
    assert rows.shape == (2, 3, 2, 3)
    assert rows[0, :, 0, 0].tolist() == [1, 2, 3]


def test_batches_without_rows_and_other_data(tmp_path: Path) -> None:
    table = TABLE.select(["vector", "x"])
    with pa.ipc.new_file(tmp_path / "d.arrow", table.schema) as file:
        for first, last in ((0, 0), (0, 5), (5, 5), (5, 9), (9, 9)):
            file.write_batch(table.to_batches()[0][first:last])
    source = open_source(f"{tmp_path}/d.arrow::vector")
    assert source.row_type == RowType((4,), np.dtype("f4"))
    assert np.array_equal(source.read(0, 9), VECTORS[:9])  # type: ignore[arg-type]
    pa.feather.write_feather(TABLE[:0], tmp_path / "empty.feather")
    empty = open_source(f"{tmp_path}/empty.feather::vector")
    assert (empty.num_rows, len(empty.read(0, 0))) == (0, 0)
    digests = {source.digest(), open_source(f"{tmp_path}/d.arrow::x").digest(), empty.digest()}
    assert len(digests) == 3


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    pa.feather.write_feather(TABLE.select(["x", "text", "vector"]), tmp_path / "c.feather", "zstd", chunksize=70)
    return (tmp_path / "c.feather").read_bytes()


def test_other_formats_of_arrow_are_refused_by_name(content: bytes, tmp_path: Path) -> None:
    with pa.ipc.new_stream(tmp_path / "stream.arrow", TABLE.schema) as file:
        file.write_table(TABLE)
    with pytest.warns(DeprecationWarning, match="Feather V1"):
        pa.feather.write_feather(TABLE.select(["x"]), tmp_path / "one.feather", version=1)
    (tmp_path / "cut.arrow").write_bytes(content[:-100])
    (tmp_path / "text.arrow").write_text("a,b\n1,2\n")
    (tmp_path / "empty.arrow").touch()
    for name, message in (
        ("stream.arrow", "is a stream of Arrow, whose rows cannot be read in place"),
        ("one.feather", "is of version 1 of Feather"),
        ("cut.arrow", "is truncated"),
        ("text.arrow", "is no Arrow file"),
        ("empty.arrow", "is no Arrow file"),
    ):
        command = ["--model", "zoo:Identity", "--data", name, "--output", "p.npy"]
        outcome = predict_here(*command, folder=tmp_path)
        assert (outcome.code, f"--data {name} {message}" in outcome.output) == (65, True), outcome.output
    with pytest.raises(InputError, match="local files alone"):
        open_source("memory://d.arrow")


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_damage_is_an_error_of_the_data(compression: Any, tmp_path: Path) -> None:
    path = tmp_path / "d.feather"
    table = TABLE.select(["tokens", "text", "category", "id"])
    pa.feather.write_feather(table, path, compression, chunksize=70)
    content, messages = path.read_bytes(), []
    for position in range(8, len(content) - 6, len(content) // 60):
        path.write_bytes(content[:position] + b"\xee" * 8 + content[position + 8 :])
        try:
            source = open_source(str(path), ["tokens", "text"], ["category"], options=ReadOptions(cells=["category"]))
            for start in range(0, source.num_rows, 50):
                source.read(start, min(source.num_rows, start + 50))
        except InputError as error:
            messages.append(error.message)
    assert len(messages) > 20
    assert all(message.startswith(f"--data {path}") for message in messages)
    assert any("cannot be read" in message for message in messages)
    assert any("is damaged" in message for message in messages)


def test_a_mapped_file_that_shrinks_is_an_error_and_no_crash(tmp_path: Path) -> None:
    values = np.arange(200_000.0).reshape(-1, 2)
    pa.feather.write_feather(pa.table({"x": values[:, 0]}), tmp_path / "d.feather", compression="uncompressed")
    np.save(tmp_path / "d.npy", np.asfortranarray(values))
    datasets.Dataset.from_dict({"x": values[:, 0]}).save_to_disk(str(tmp_path / "folder"))
    for data, file in (("d.feather", "d.feather"), ("d.npy", "d.npy"), ("folder", "folder/data-00000-of-00001.arrow")):
        source = open_source(str(tmp_path / data))
        source.read(0, 10)
        os.truncate(tmp_path / file, 4096)
        with pytest.raises(InputError, match=f"{file} has become shorter while it was read"):
            source.read(90_000, 90_010)
