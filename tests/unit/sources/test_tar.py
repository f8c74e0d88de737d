"""Tar files in WebDataset's layout, by its own writer and by the standard library's, and tar files that are bad."""

import gzip
import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from launch import predict_here, run
from pictures import pixels
from PIL import Image
from webdataset.tariterators import group_by_keys, tar_file_expander

from runner.core.errors import InputError, UsageError
from runner.data.rows import RAGGED, TEXT, RowType
from runner.data.tensors import as_batch
from runner.sources import DataSpec, open_source
from runner.sources.media.tar import TarSource

NUM_ROWS = 37


def image_bytes(height: int = 6, width: int = 5) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels(height, width)).save(file, "JPEG")
    return file.getvalue()


def read_image(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content))).transpose(2, 0, 1)


def array_bytes(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def make_samples(num_rows: int = NUM_ROWS) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "__key__": f"part-{row % 2}/{row:04d}",
            "jpg": image_bytes(),
            "cls": row * 3 - 5,
            "json": {"row": row, "word": "möglich"},
            "txt": "möglich\n" * (row % 3),
            "npy": np.asfortranarray(rng.random((2, 3)).astype(">f4")),
            "left.png": Image.fromarray(pixels(4, 4)),
        }
        for row in range(num_rows)
    ]


def write_by_webdataset(path: Path, samples: list[dict[str, Any]]) -> None:
    with webdataset.TarWriter(str(path)) as writer:
        for sample in samples:
            writer.write(sample)


def read_by_webdataset(path: Path) -> list[dict[str, Any]]:
    with path.open("rb") as stream:
        return list(group_by_keys(tar_file_expander([{"url": str(path), "stream": stream}])))


def write_members(path: Path, members: Mapping[str, bytes], **options: Any) -> None:
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_any_range_of_all_fields(tmp_path: Path) -> None:
    samples, path = make_samples(), tmp_path / "d.tar"
    write_by_webdataset(path, samples)
    by_webdataset = read_by_webdataset(path)
    assert [sample["__key__"] for sample in by_webdataset] == [sample["__key__"] for sample in samples]
    source = TarSource(DataSpec(str(path), keep=["__key__"]))
    assert source.num_rows == NUM_ROWS
    text, images = RowType(RAGGED, TEXT), RowType((3, 6, 5), np.dtype("u1"))
    assert source.row_type == {
        "jpg": images,
        "cls": RowType((), np.dtype("i8")),
        "json": text,
        "txt": text,
        "npy": RowType((2, 3), np.dtype("f4")),
        "left.png": RowType((3, 4, 4), np.dtype("u1")),
        "__key__": text,
    }
    for start, stop in ((0, NUM_ROWS), (NUM_ROWS - 1, NUM_ROWS), (11, 31)):
        rows = source.read(start, stop)
        batch = as_batch(rows)
        expected = by_webdataset[start:stop]
        assert np.array_equal(rows["jpg"], [read_image(sample["jpg"]) for sample in expected])
        assert np.array_equal(rows["left.png"], [read_image(sample["left.png"]) for sample in expected])
        assert rows["cls"].tolist() == [row * 3 - 5 for row in range(start, stop)]
        assert batch["json"] == [sample["json"].decode() for sample in expected]
        assert [json.loads(item)["row"] for item in batch["json"]] == list(range(start, stop))
        assert batch["txt"] == [sample["txt"].decode() for sample in expected]
        assert np.array_equal(rows["npy"], [np.load(io.BytesIO(sample["npy"])) for sample in expected])
        assert batch["__key__"] == [sample["__key__"] for sample in expected]
        for name in ("jpg", "cls", "npy"):
            assert rows[name].flags.c_contiguous
            assert rows[name].flags.writeable
            assert rows[name].dtype.isnative
    none = source.read(5, 5)
    assert {name: len(column) for name, column in none.items()} == dict.fromkeys(source.row_type, 0)


def test_fields_are_chosen_and_images_scaled(tmp_path: Path) -> None:
    samples, path = make_samples(), str(tmp_path / "d.tar")
    write_by_webdataset(tmp_path / "d.tar", samples)
    assert open_source(f"{path}::cls").read(3, 5).tolist() == [4, 7]
    assert as_batch(open_source(f"{path}::__key__").read(0, 1)) == ["part-0/0000"]
    assert list(TarSource(DataSpec(path, "jpg", keep=["cls"])).row_type) == ["jpg", "cls"]
    assert list(TarSource(DataSpec(path, columns=["cls", "txt"], keep=["txt", "__key__"])).row_type) == [
        "cls",
        "txt",
        "__key__",
    ]
    scaled = open_source(f"{path}::left.png@2")
    assert scaled.row_type == RowType((3, 2, 2), np.dtype("u1"))
    expected = samples[1]["left.png"].resize((2, 2), Image.Resampling.BILINEAR)
    assert np.array_equal(scaled.read(1, 2)[0].transpose(1, 2, 0), np.asarray(expected))
    both = TarSource(DataSpec(path, "@7x8", columns=["jpg", "left.png", "cls"]))
    assert [str(row_type) for row_type in both.row_type.values()] == ["uint8 (3, 7, 8)"] * 2 + ["int64 ()"]
    for data, message in (
        (f"{path}::jpg@", "is not an image size"),
        (f"{path}::cls@5", "a size is for images, and cls are none"),
    ):
        with pytest.raises(UsageError, match=message):
            open_source(data)
    with pytest.raises(InputError, match=r"no field 'png'; it has cls, jpg, json, left.png, npy, txt, __key__"):
        open_source(f"{path}::png")


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_layout_of_the_standard_library(layout: int, tmp_path: Path) -> None:
    long = "x" * (90 if layout == tarfile.USTAR_FORMAT else 300)
    members = {
        "./b.cls": b" 2\n",
        "__meta__": b"no sample",
        "README": b"no sample",
        "./._b.cls": b"what macOS leaves",
        f"{long}.CLS": b"3",
        "deep.er/ä.x/a.cls": b"-9223372036854775808",
        "./b.txt": b"two",  # far from the other members of its sample
        "deep.er/ä.x/a.txt": b"four",
        f"{long}.txt": "drei \U0001f680".encode(),
    }
    write_members(tmp_path / "d.tar", members, format=layout)
    with tarfile.open(tmp_path / "d.tar", "a", format=layout) as tar:
        tar.add(tmp_path, "folder.cls", recursive=False)
    source = TarSource(DataSpec(str(tmp_path / "d.tar"), keep=["__key__"]))
    batch = as_batch(source.read(0, 3))
    assert batch["__key__"] == ["./b", long, "deep.er/ä.x/a"]
    assert batch["cls"].tolist() == [2, 3, -(1 << 63)]
    assert batch["txt"] == ["two", "drei \U0001f680", "four"]


BAD = {
    "no image": ("2.jpg", b"oh", "field 'jpg' is no image in one of the formats"),
    "another size": ("2.jpg", image_bytes(5, 6), "is 5x6 (height x width), not 6x5 as those before it"),
    "not there": ("2.jpg", None, "field 'jpg' is missing"),
    "no number": ("2.cls", b"cat", "is no whole number of 64 bits: b'cat'"),
    "large number": ("2.cls", b"9223372036854775808", "is no whole number of 64 bits"),
    "empty number": ("2.cls", b"", "is no whole number of 64 bits"),
    "no UTF-8": ("2.txt", b"\xff", "is not text in UTF-8"),
    "no array": ("2.npy", b"oh", "is not in .npy format"),
    "cut array": ("2.npy", array_bytes(np.zeros((2, 2)))[:-1], "is not in .npy format"),
    "objects": ("2.npy", array_bytes(np.array([None])), "is not in .npy format"),
    "another shape": ("2.npy", array_bytes(np.zeros((2, 3))), "is float64 (2, 3), not float64 (2, 2) as those before"),
    "another dtype": ("2.npy", array_bytes(np.zeros((2, 2), "f4")), "is float32 (2, 2), not float64 (2, 2)"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_sample_is_named_and_its_neighbors_are_read(what: str, tmp_path: Path) -> None:
    name, content, message = BAD[what]
    members = {
        f"{row}.{field}": value
        for row in range(5)
        for field, value in {
            "jpg": image_bytes(),
            "cls": b"1",
            "txt": b"text",
            "npy": array_bytes(np.zeros((2, 2))),
        }.items()
    }
    if content is None:
        del members[name]
    else:
        members[name] = content
    write_members(tmp_path / "d.tar", members)
    source = open_source(str(tmp_path / "d.tar"))
    source.digest()
    for start, stop in ((2, 3), (0, 5)):
        with pytest.raises(InputError) as caught:
            source.read(start, stop)
        assert f"--data {tmp_path / 'd.tar'}: row 2 ('2'): field '{name[2:]}' " in caught.value.message
        assert message in caught.value.message
    for row in (1, 3):
        assert source.read(row, row + 1)["cls"].tolist() == [1]


def whole_tar(path: Path) -> bytes:
    write_members(path, {f"{row}.txt": b"text" * 300 for row in range(10)})
    return path.read_bytes()


def test_a_tar_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.tar"
    content = whole_tar(path)
    last = 9 * (512 + 1536)
    for end in (last + 700, last + 512, last + 100, last, last - 100, 2048, last + 2048):
        path.write_bytes(content[:end])
        with pytest.raises(InputError, match=r"d.tar is truncated"):
            open_source(str(path))
    path.write_bytes(content[: last + 2048 + 512])
    assert open_source(str(path)).num_rows == 10
    for position in (last, last + 100, last + 150):
        damaged = bytearray(content)
        damaged[position] ^= 255
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="is damaged: there is no member at byte 18432"):
            open_source(str(path))
    header = bytearray(content[last : last + 512])
    header[124:136] = b"\xff" * 11 + b"\0"  # minus 256
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(b" " * 8) + sum(header[156:]))
    path.write_bytes(content[:last] + header + content[last + 512 :])
    with pytest.raises(InputError, match=r"is damaged"):
        open_source(str(path))
    for other, message in (
        (b"", "is not a tar file"),
        (b"no tar" * 1000, "is not a tar file"),
        (gzip.compress(content), "is compressed by gzip"),
        (bytes(10240), "holds no samples"),
    ):
        path.write_bytes(other)
        with pytest.raises(InputError, match=message):
            open_source(str(path))
    with pytest.raises(InputError, match="No such file"):
        open_source(str(tmp_path / "gone.tar"))


@pytest.mark.launch
def test_what_cannot_be_read_in_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.tar"
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        write_members(path, {"0.txt": b"zero"})
        with tarfile.open(path, "a") as tar:
            link = tarfile.TarInfo("1.txt")
            link.type, link.linkname = kind, "0.txt"
            tar.addfile(link)
        with pytest.raises(InputError, match=r"member '1.txt' is a link.*--hard-dereference"):
            open_source(str(path))
    with (tmp_path / "1.npy").open("wb") as file:
        file.truncate(1 << 20)
        file.seek(1 << 19)
        file.write(b"x")
    outcome = run(["tar", "--sparse", "-cf", "d.tar", "1.npy"], tmp_path)
    assert outcome.code == 0, outcome.output
    with pytest.raises(InputError, match=r"member '1.npy' is sparse"):
        open_source(str(path))
    write_members(path, {"0.txt": b"zero", "0.TXT": b"again"})
    with pytest.raises(InputError, match=r"more than one member '0.txt'"):
        open_source(str(path))
    write_members(path, {"0.txt": b"zero", "0.pth": b"weights", "0.npy": array_bytes(np.array(["words"]))})
    with pytest.raises(InputError, match=r"field 'pth' has no known type. Choose among txt, npy, __key__"):
        open_source(str(path))
    with pytest.raises(InputError, match=r"is of dtype <U5; rows must be"):
        open_source(f"{path}::npy")
    assert open_source(f"{path}::txt").num_rows == 1


def test_digest_and_stamp(tmp_path: Path) -> None:
    path = tmp_path / "d.tar"
    content = whole_tar(path)
    source = open_source(str(path))
    digest, stamp = source.digest(), source.stamp()
    os.utime(path, (1, 1))
    assert source.stamp() != stamp
    changed = bytearray(content)
    changed[512 + 2048 * 4] ^= 1
    path.write_bytes(changed)
    assert open_source(str(path)).digest() != digest
    write_members(tmp_path / "e.tar", {f"{row}.txt": b"text" * 300 for row in range(10)}, format=tarfile.GNU_FORMAT)
    assert open_source(str(tmp_path / "e.tar")).digest() == digest
    assert TarSource(DataSpec(str(path), keep=["__key__"])).digest() != digest


def test_samples_are_predicted_and_bad_ones_set_aside(tmp_path: Path) -> None:
    samples = make_samples()
    samples[17]["jpg"] = b"no image"
    write_by_webdataset(tmp_path / "d.tar", samples)
    command = ["--model", "test_images:Means", "--data", "d.tar::jpg@4x4", "--output", "p.npy", "--batch-size", "5"]
    command += ["--chunk-size", "5", "--on-error", "quarantine"]
    outcome = predict_here(*command, folder=tmp_path)
    assert outcome.code == 0, outcome.output
    (line,) = (tmp_path / "p.npy.run/quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["row"] == 17
    assert "row 17 ('part-1/0017'): field 'jpg' is no image" in json.loads(line)["error"]
    found = np.load(tmp_path / "p.npy")
    source = open_source(f"{tmp_path / 'd.tar'}::jpg@4x4")
    for row in (*range(17), *range(18, NUM_ROWS)):
        assert np.allclose(found[row], source.read(row, row + 1)[0].mean(axis=(1, 2)), rtol=0, atol=1e-9)
    assert np.isnan(found[17]).all()
