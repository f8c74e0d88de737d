"""TFRecord files: the values that the library tfrecord wrote, and files that are damaged."""

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tfrecord.writer import TFRecordWriter

from runner.core.errors import InputError
from runner.data.rows import RAGGED, TEXT, RowType
from runner.data.tensors import as_batch
from runner.sources import ReadOptions, open_source

NUM_ROWS = 300


def png(row: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 5, 3), row % 256, np.uint8)).save(file, "png")
    return file.getvalue()


def example(row: int) -> dict[str, tuple[Any, str]]:
    return {
        "id": (row, "int"),
        "x": (row / 4, "float"),
        "pair": ([row, -row], "int"),
        "tokens": (list(range(row % 5)), "int"),
        "name": (f"möglich {row}".encode(), "byte"),
        "image": (png(row), "byte"),
        "raw": (bytes([255, row % 256]), "byte"),
    } | ({"rare": (row, "int")} if row % 2 else {})


def write(path: Path, rows: range, sequences: Any = None) -> None:
    writer = TFRecordWriter(str(path))
    for row in rows:
        writer.write(example(row), sequences)
    writer.close()


@pytest.mark.parametrize("name", ["d.tfrecord", "d.tfrecord.gz", "part-*.tfrecords"])
def test_features_are_columns(name: str, tmp_path: Path) -> None:
    if name == "d.tfrecord.gz":
        write(tmp_path / "d.tfrecord", range(NUM_ROWS))
        (tmp_path / name).write_bytes(gzip.compress((tmp_path / "d.tfrecord").read_bytes()))
    elif name == "d.tfrecord":
        write(tmp_path / name, range(NUM_ROWS))
    else:
        write(tmp_path / "part-0.tfrecords", range(100))
        write(tmp_path / "part-1.tfrecords", range(100, NUM_ROWS))
    names = ["id", "x", "pair", "tokens", "name", "image"]
    source: Any = open_source(f"{tmp_path}/{name}", names)
    source.use([source.scan(part, 3) for part in range(3)])
    assert source.num_rows == NUM_ROWS
    assert source.row_type == {
        "id": RowType((), np.dtype("i8")),
        "x": RowType((), np.dtype("f4")),
        "pair": RowType((2,), np.dtype("i8")),
        "tokens": RowType(RAGGED, np.dtype("i8")),
        "name": RowType(RAGGED, TEXT),
        "image": RowType((3, 4, 5), np.dtype("u1")),
    }
    for start, stop in ((0, NUM_ROWS), (99, 101), (NUM_ROWS - 1, NUM_ROWS), (5, 5)):
        rows, columns = range(start, stop), as_batch(source.read(start, stop))
        assert columns["id"].tolist() == list(rows)
        assert columns["x"].tolist() == [row / 4 for row in rows]
        assert columns["pair"].tolist() == [[row, -row] for row in rows]
        assert [tokens.tolist() for tokens in columns["tokens"]] == [list(range(row % 5)) for row in rows]
        assert columns["name"] == [f"möglich {row}" for row in rows]
        assert columns["image"][:, 0, 0, 0].tolist() == [row % 256 for row in rows]
    assert open_source(f"{tmp_path}/{name}::x").row_type == RowType((), np.dtype("f4"))


def test_what_is_missing_is_null_and_what_differs_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "d.tfrecord"
    writer = TFRecordWriter(str(path))
    for row in range(1200):
        writer.write(example(row) if row != 1100 else example(row) | {"id": ([1, 2], "int"), "x": (7, "int")})
    writer.close()
    source = open_source(str(path), ["id"], ["rare"], options=ReadOptions(cells=["rare"]))
    source.read(0, 1000)
    with pytest.raises(InputError, match="row 1100: 'id' has 2 values, where those before have one"):
        source.read(1000, 1200)
    with pytest.raises(InputError, match="row 1100: 'x' is int64, where others are float32"):
        open_source(f"{path}::x").read(1100, 1101)
    with pytest.raises(InputError, match="row 0 of column 'rare' is null"):
        open_source(f"{path}::rare").read(0, 10)
    with pytest.raises(InputError, match="column 'raw' is of type binary"):
        open_source(f"{path}::raw")


def test_damaged_truncated_and_other_files_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "d.tfrecord"
    write(path, range(20))
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    for cut in (5, length + 15, len(whole) - 1, len(whole) - length):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"d\.tfrecord is truncated"):
            open_source(f"{path}::x").num_rows  # noqa: B018
    damaged = bytearray(whole)
    damaged[2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(InputError, match="is damaged, or no TFRecord file: no record is at byte 0"):
        open_source(f"{path}::x")
    damaged = bytearray(whole)
    damaged[length // 2] ^= 1
    path.write_bytes(damaged)
    source = open_source(f"{path}::x")
    assert as_batch(source.read(1, 20)).tolist() == [row / 4 for row in range(1, 20)]
    with pytest.raises(InputError, match="row 0 is damaged: its checksum differs"):
        source.read(0, 2)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="holds no records"):
        open_source(str(path))
    write(path, range(3), {"words": ([[1], [2]], "int")})
    with pytest.raises(InputError, match=r"row 0 has sequences \(tf.train.SequenceExample\)"):
        open_source(str(path))
