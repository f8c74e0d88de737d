"""Images in columns, as Hugging Face's Datasets writes them to folders and to Parquet, and as the Hub has them."""

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from launch import predict_here
from pictures import pixels
from PIL import Image

from runner.core.errors import InputError, UsageError
from runner.data.rows import FILE, Ragged, RowType
from runner.sources import open_source

IMAGES = [pixels(4, 5) + row for row in range(7)]


def saved(path: Path, kind: str, images: Any = IMAGES) -> str:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    columns = {"image": [Image.fromarray(image) for image in images], "label": [row % 2 for row in range(len(images))]}
    table = datasets.Dataset.from_dict(columns, features)
    if kind == "folder":
        table.save_to_disk(str(path / "d"))
        return str(path / "d")
    table.to_parquet(str(path / "d.parquet"), batch_size=3)
    return str(path / "d.parquet")


@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_images_are_decoded(kind: str, tmp_path: Path) -> None:
    path = saved(tmp_path, kind)
    source = open_source(f"{path}::image")
    assert source.row_type == RowType((3, 4, 5), np.dtype("u1"))
    for start, stop in ((0, 7), (2, 5), (6, 7), (3, 3)):
        rows = source.read(start, stop)
        assert isinstance(rows, np.ndarray)
        assert np.array_equal(rows, np.reshape([i.transpose(2, 0, 1) for i in IMAGES[start:stop]], (-1, 3, 4, 5)))
    scaled = open_source(f"{path}::image@2x2")
    assert scaled.row_type == RowType((3, 2, 2), np.dtype("u1"))
    assert scaled.digest() != source.digest()
    files = open_source(f"{path}::image@file").read(1, 3)
    assert isinstance(files, Ragged)
    assert files.values.dtype == FILE
    first = files.values[: files.offsets[1]].tobytes()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(first))), IMAGES[1])
    both = open_source(path).read(0, 2)
    assert isinstance(both, dict)
    assert both["label"].tolist() == [0, 1]  # type: ignore[union-attr]


def test_a_job_keeps_labels_and_sets_bad_images_aside(tmp_path: Path) -> None:
    path = saved(tmp_path, "parquet")
    table = pa.parquet.read_table(path)
    rows = table["image"].to_pylist()
    rows[3], rows[5] = {"bytes": b"none", "path": None}, {"bytes": None, "path": "5.png"}
    pa.parquet.write_table(table.set_column(0, "image", pa.array(rows, table["image"].type)), path)
    command = ["--model", "zoo:Identity", "--data", "d.parquet::image", "--keep", "label", "--output", "p.parquet"]
    outcome = predict_here(*command, "--on-error", "quarantine", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    found = pa.parquet.read_table(tmp_path / "p.parquet")
    assert found["label"].to_pylist() == [row % 2 for row in range(7)]
    assert found["predictions"][2].as_py() == IMAGES[2].transpose(2, 0, 1).tolist()
    lines = (tmp_path / "p.parquet.run/quarantine.jsonl").read_text().splitlines()
    assert [("no image in one of the formats" in line, "only the path '5.png'" in line) for line in lines] == [
        (True, False),
        (False, True),
    ]


def test_what_images_in_columns_cannot_be(tmp_path: Path) -> None:
    path = saved(tmp_path, "parquet", [*IMAGES[:2], pixels(5, 4)])
    with pytest.raises(InputError, match=r"::image: row 2 is 5x4 .*not 4x5 as the first.*@HEIGHTxWIDTH"):
        open_source(f"{path}::image").read(0, 3)
    with pytest.raises(UsageError, match="a size is for images, and label are none"):
        open_source(f"{path}::label@2x2")
    with pytest.raises(UsageError, match=r"images and sound are kept in \.parquet"):
        open_source(path, ["label"], ["image"])
    table = pa.table({"audio": [{"bytes": b"ID3.....", "path": "a.mp3"}]})
    pa.parquet.write_table(table, tmp_path / "audio.parquet")
    with pytest.raises(InputError, match="column 'audio' is of type struct"):
        open_source(f"{tmp_path}/audio.parquet")
