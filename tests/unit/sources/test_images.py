"""A folder of images: every kind that Pillow writes, against what Pillow makes of it, and images that are bad."""

import functools
import io
import json
import os
import random
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from launch import LAUNCHERS, predict_command, run
from pictures import pixels
from PIL import Image, ImageOps
from torch import nn

from runner.core.errors import InputError, MemoryShortage, UsageError
from runner.data.rows import FILE, RAGGED, TEXT, RowType, is_ragged
from runner.data.tensors import as_batch
from runner.models.images.reading import open_files
from runner.sources import DataSpec, open_source
from runner.sources.media import decode
from runner.sources.media.images import ImageSource

NUM_ROWS = 37


class Means(nn.Module):
    """Images to the mean of each channel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.double().mean(dim=(2, 3))


def save(image: Image.Image, path: Path, **options: object) -> Image.Image:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return Image.open(io.BytesIO(path.read_bytes()))


def folder_of(
    tmp_path: Path, num_rows: int = NUM_ROWS, height: int = 6, width: int = 5
) -> list[tuple[str, np.ndarray]]:
    """The names of images in a folder `d`, in order, and what Pillow reads."""
    suffixes = [".jpg", ".JPEG", ".png", ".bmp", ".gif", ".tif", ".TIFF", ".webp"]
    rows = []
    for row in range(num_rows):
        name = f"{'abc'[row % 3]}/{'deep/' * (row % 2)}{row:03d}{suffixes[row % 8]}"
        image = save(Image.fromarray(pixels(height, width)), tmp_path / "d" / name)
        rows.append((name, np.asarray(image.convert("RGB")).transpose(2, 0, 1)))
    return sorted(rows, key=lambda row: row[0])


def one(path: Path, inner: str = "") -> np.ndarray:
    """The only image of a folder, as height, width, channels."""
    return open_source(f"{path}::{inner}" if inner else str(path)).read(0, 1)[0].transpose(1, 2, 0)


def test_any_range_in_the_order_of_paths(tmp_path: Path) -> None:
    expected = folder_of(tmp_path)
    for other in ("notes.txt", ".hidden.png", "a/.cache/x.png", "a/jpg", "index.html"):
        (tmp_path / "d" / other).parent.mkdir(exist_ok=True)
        (tmp_path / "d" / other).write_bytes(b"no image")
    os.mkfifo(tmp_path / "d/pipe.png")
    (tmp_path / "d/a/around").symlink_to("..")  # for ever
    source = open_source(f"{tmp_path / 'd'}/", ["image", "label"], ["path"])
    assert source.num_rows == NUM_ROWS
    assert source.row_type == {
        "image": RowType((3, 6, 5), np.dtype("u1")),
        "label": RowType(RAGGED, TEXT),
        "path": RowType(RAGGED, TEXT),
    }
    assert 90 < source.row_bytes < 120
    for start, stop in ((0, NUM_ROWS), (7, 7), (NUM_ROWS - 1, NUM_ROWS), (11, 31)):
        rows = source.read(start, stop)
        images = rows["image"]
        assert images.flags.c_contiguous
        assert images.flags.writeable
        assert np.array_equal(images, np.array([image for _, image in expected[start:stop]]).reshape(images.shape))
        names = [name for name, _ in expected[start:stop]]
        batch = as_batch(rows) if names else {"path": [], "label": []}
        assert batch["path"] == names
        assert batch["label"] == [Path(name).parent.name for name in names]
    assert np.array_equal(open_source(str(tmp_path / "d")).read(3, 9), source.read(3, 9)["image"])


def test_files_as_they_are(tmp_path: Path) -> None:
    names = [name for name, _ in folder_of(tmp_path)]
    (tmp_path / "d" / names[4]).write_bytes(b"")
    contents = [(tmp_path / "d" / name).read_bytes() for name in names]
    source = open_source(f"{tmp_path / 'd'}::file", keep=["path"])
    assert source.row_type == {"file": RowType(RAGGED, FILE), "path": RowType(RAGGED, TEXT)}
    assert not is_ragged(source.row_type, ["path"])  # batches are not cut by the lengths of files
    assert abs(source.row_bytes - sum(map(len, [*contents, *names])) / NUM_ROWS) < 2
    batch = as_batch(source.read(3, 9))
    assert [file.numpy().tobytes() for file in batch["file"]] == contents[3:9]
    assert batch["path"] == names[3:9]
    assert np.array_equal(
        open_source(str(tmp_path / "d"), ["file"]).read(0, 9).values, source.read(0, 9)["file"].values
    )
    (tmp_path / "d" / names[5]).unlink()
    with pytest.raises(InputError, match=r"row 5 .*: No such file"):
        source.read(3, 9)


def test_names_beside_no_images(tmp_path: Path) -> None:
    (tmp_path / "top.png").write_bytes(b"broken, which does not matter")
    source = ImageSource(DataSpec(str(tmp_path), columns=["label"]))
    assert source.row_type == RowType(RAGGED, TEXT)
    assert as_batch(source.read(0, 1)) == [""]
    (tmp_path / os.fsdecode(b"zo\xeb.png")).write_bytes(b"")
    source = ImageSource(DataSpec(str(tmp_path), columns=["path"]))
    assert as_batch(source.read(0, 1)) == ["top.png"]
    with pytest.raises(InputError, match=r"row 1 .*its path is not text in UTF-8"):
        source.read(0, 2)
    source.digest()


def kinds() -> dict[str, tuple[Image.Image, dict[str, object]]]:
    rgb = Image.fromarray(pixels(9, 7))
    rgba = Image.merge("RGBA", [*rgb.split(), alpha()])
    return {
        "rgb.png": (rgb, {}),
        "gray.jpg": (rgb.convert("L"), {}),
        "gray.png": (rgb.convert("L"), {}),
        "bits.png": (rgb.convert("1"), {}),
        "bits.tif": (rgb.convert("1"), {"compression": "group4"}),
        "palette.png": (rgb.quantize(5), {}),
        "palette.gif": (rgb.quantize(5), {}),
        "palette.bmp": (rgb.quantize(5), {}),
        "cmyk.jpg": (rgb.convert("CMYK"), {"quality": 95}),
        "cmyk.tif": (rgb.convert("CMYK"), {}),
        "rgba.png": (rgba, {}),
        "rgba.webp": (rgba, {"lossless": True, "exact": True}),
        "rgba.tif": (rgba, {"compression": "tiff_lzw"}),
        "la.png": (rgba.convert("LA"), {}),
        "clear.png": (rgb.quantize(5), {"transparency": 2}),
        "clear.gif": (rgb.quantize(5), {"transparency": 2}),
        "clear_rgb.png": (rgb, {"transparency": rgb.getpixel((2, 3))}),
        "clear_grey.png": (rgb.convert("L"), {"transparency": rgb.convert("L").getpixel((2, 3))}),
        "clear_bits.png": (rgb.convert("1"), {"transparency": 0}),
    }


def alpha() -> Image.Image:
    return Image.fromarray(np.resize(np.array([0, 255, 128, 3], "u1"), (9, 7)))


@pytest.mark.parametrize("name", kinds())
def test_every_mode_becomes_rgb_and_transparency_white(name: str, tmp_path: Path) -> None:
    image, options = kinds()[name]
    expected = save(image, tmp_path / "d" / name, **options)
    found = one(tmp_path / "d")
    if expected.has_transparency_data:
        clear = np.asarray(expected.convert("RGBA")).astype(float)
        opacity = clear[..., 3:] / 255
        assert (opacity == 0).any()
        assert (found[opacity[..., 0] == 0] == 255).all()
        assert np.abs(found - (clear[..., :3] * opacity + 255 * (1 - opacity))).max() <= 1
    else:
        assert np.array_equal(found, np.asarray(expected.convert("RGB")))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_of_grey_are_scaled(name: str, tmp_path: Path) -> None:
    levels = pixels(9, 7, 1, "u2")
    levels[0, :3] = 0, 65535, 256
    save(Image.fromarray(levels), tmp_path / "d" / name)
    found = one(tmp_path / "d")
    assert np.array_equal(found[..., 0], np.rint(levels / 257))
    assert found[0, 1].tolist() == [255, 255, 255]
    assert (found == found[..., :1]).all()


def test_whole_numbers_of_32_bits_only_where_they_are_of_16(tmp_path: Path) -> None:
    levels = pixels(9, 7, 1, "u2").astype("i4")
    save(Image.fromarray(levels), tmp_path / "d/0.tif")
    save(Image.fromarray(levels * 5), tmp_path / "d/1.tif")
    save(Image.fromarray(levels.astype("f4")), tmp_path / "d/2.tif")
    source = open_source(str(tmp_path / "d"))
    assert np.array_equal(source.read(0, 1)[0, 1], np.rint(levels / 257))
    with pytest.raises(InputError, match=r"row 1 \('1.tif'\) holds numbers .*with 8 or 16 bits"):
        source.read(0, 3)
    with pytest.raises(InputError, match=r"row 2 \('2.tif'\) holds floating-point numbers"):
        source.read(2, 3)


def test_bands_and_pages_are_not_dropped(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    rgba = Image.fromarray(np.full((4, 4, 4), 20, "u1"))
    page = Image.fromarray(pixels(4, 4))
    rgba.save(tmp_path / "d/0.tif")
    content = (tmp_path / "d/0.tif").read_bytes()
    opacity, unknown = (struct.pack("<HHIHH", 338, 3, 1, meaning, 0) for meaning in (2, 0))
    assert content.count(opacity) == 1
    (tmp_path / "d/0.tif").write_bytes(content.replace(opacity, unknown))
    rgba.save(tmp_path / "d/1.tif", tiffinfo={33550: (1.0, 1.0, 0.0)})  # a scale of GeoTIFF
    page.save(tmp_path / "d/2.tif", save_all=True, append_images=[page])
    page.save(tmp_path / "d/3.tif", save_all=True, append_images=[page.reduce(2)])
    source = open_source(f"{tmp_path}/d::4")
    for row, words in enumerate(
        ("has 4 bands, 1 of them neither a color", "is a GeoTIFF of 4 bands", "has 2 pages", "has 2 pages")
    ):
        with pytest.raises(InputError, match=rf"row {row} \('{row}.tif'\) {words}"):
            source.read(row, row + 1)
    frames = [page, Image.fromarray(pixels(4, 4) // 2)]
    for name in ("overview.tif", "mask.tif"):
        frames[1].encoderinfo = {"tiffinfo": {254: 1 if name == "overview.tif" else 4}}  # type: ignore[attr-defined]
        frames[0].save(tmp_path / f"{name}", save_all=True, append_images=frames[1:])
        assert np.array_equal(decode.decode((tmp_path / name).read_bytes(), None, name), np.asarray(page))


def test_files_beside_images_are_told(tmp_path: Path) -> None:
    for name in ("a.png", "b/c.png"):
        save(Image.fromarray(pixels(4, 4)), tmp_path / "d" / name)
    for name in ("d.heic", "b/e.heic", "b/f", ".hidden"):
        (tmp_path / "d" / name).touch()
    (note,) = open_source(str(tmp_path / "d")).notes  # type: ignore[attr-defined]
    assert note == f"--data {tmp_path}/d: 3 files are left out, which are .heic (2), without a suffix (1)"


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_images_are_upright(turn: int, suffix: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    image = save(Image.fromarray(pixels(9, 16)), tmp_path / f"d/a.{suffix}", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert expected.shape[:2] == ((9, 16) if turn < 5 else (16, 9))
    assert np.array_equal(one(tmp_path / "d"), expected)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_says_nothing(tmp_path: Path) -> None:
    image = save(Image.fromarray(pixels(9, 7)), tmp_path / "d/a.jpg", exif=b"Exif\0\0MM\0*garbage")
    assert np.array_equal(one(tmp_path / "d"), np.asarray(image.convert("RGB")))


def by_torchvision(image: Image.Image, size: int) -> np.ndarray:
    """What its `Resize(size)` and `CenterCrop(size)` do with images of Pillow."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    longer = int(size * long / short)
    image = image.resize((size, longer) if width <= height else (longer, size), Image.Resampling.BILINEAR)
    top, left = round((image.height - size) / 2.0), round((image.width - size) / 2.0)
    return np.asarray(image.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize("shape", [(500, 375), (375, 500), (64, 64), (33, 90), (91, 33), (64, 100), (1, 1), (63, 65)])
def test_a_size_is_covered_and_its_middle_cut_out(shape: tuple[int, int], tmp_path: Path) -> None:
    image = save(Image.fromarray(pixels(*shape)), tmp_path / "d/a.png")
    assert np.array_equal(one(tmp_path / "d", "64"), by_torchvision(image, 64))
    assert np.array_equal(one(tmp_path / "d", "64x64"), by_torchvision(image, 64))
    for height, width in ((48, 100), (100, 48), (1, 7)):
        found = one(tmp_path / "d", f"{height}x{width}")
        assert found.shape == (height, width, 3)
        scale = max(height / shape[0], width / shape[1])
        covering = image.resize((int(shape[1] * scale + 1e-9), int(shape[0] * scale + 1e-9)), Image.Resampling.BILINEAR)
        left, top = round((covering.width - width) / 2), round((covering.height - height) / 2)
        assert np.array_equal(found, np.asarray(covering.crop((left, top, left + width, top + height))))


@functools.cache
def bad_files() -> dict[str, tuple[bytes, str]]:
    buffer = {}
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "PPM"):
        file = io.BytesIO()
        Image.fromarray(pixels(64, 64)).save(file, kind)
        buffer[kind] = file.getvalue()
    thin = io.BytesIO()
    Image.new("1", (60_000, 1)).save(thin, "PNG")
    large = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(large, "PNG")
    larger = io.BytesIO()  # Pillow itself only warns of it
    Image.new("1", (10_000, 9_000)).save(larger, "PNG")
    damaged = bytearray(buffer["PNG"])
    damaged[len(damaged) // 2] ^= 255
    return {
        "empty.jpg": (b"", "is empty"),
        "text.jpg": (b"<html>not found</html>", "is no image in one of the formats JPEG, PNG"),
        "other.jpg": (buffer["PPM"], "is no image in one of the formats"),
        "cut.jpg": (buffer["JPEG"][:-900], "cannot be decoded: OSError: image file is truncated"),
        "cut.png": (buffer["PNG"][:-900], "cannot be decoded"),
        "cut.gif": (buffer["GIF"][:-900], "cannot be decoded"),
        "cut.tif": (buffer["TIFF"][:-900], "cannot be decoded"),
        "cut.webp": (buffer["WEBP"][:-900], ""),
        "head.jpg": (buffer["JPEG"][:20], ""),
        "damaged.png": (bytes(damaged), "cannot be decoded"),
        "thin.png": (thin.getvalue(), "is 1x60000, too long and thin to be made 64x64"),
        "larger.png": (larger.getvalue(), "is an image of more than 89,478,485 pixels"),
        "bomb.png": (large.getvalue(), "is an image of more than 89,478,485 pixels"),
    }


@pytest.mark.parametrize("name", bad_files())
def test_a_bad_image_is_named_and_its_neighbors_are_read(name: str, tmp_path: Path) -> None:
    content, message = bad_files()[name]
    good = [save(Image.fromarray(pixels(64, 64)), tmp_path / f"d/{name[0]}/{row}") for row in ("a.png", "c.png")]
    (tmp_path / f"d/{name[0]}/b.{name}").write_bytes(content)
    source = open_source(f"{tmp_path / 'd'}::64")
    for start, stop in ((1, 2), (0, 3)):
        with pytest.raises(InputError) as caught:
            source.read(start, stop)
        assert f"--data {tmp_path / 'd'}: row 1 ('{name[0]}/b.{name}') is" in caught.value.message.replace(
            "cannot", "is"
        )
        assert message in caught.value.message
        assert " at 0x" not in caught.value.message
    for row, image in zip((0, 2), good, strict=True):
        assert np.array_equal(source.read(row, row + 1)[0].transpose(1, 2, 0), np.asarray(image))


def test_pillow_warns_of_nothing_and_its_own_limit_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "d").mkdir()
    Image.new("1", (10_000, 9_000)).save(tmp_path / "d/a.png")
    with pytest.raises(InputError, match="89,478,485 pixels"):
        open_source(f"{tmp_path}/d")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000_000)
    assert open_source(f"{tmp_path}/d").row_bytes == 270_000_000
    assert not recwarn.list


def test_images_of_a_batch_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path, num_rows=6)
    monkeypatch.setattr(decode, "_BATCH_BYTES", 4 * 3 * 6 * 5)
    source = open_source(f"{tmp_path}/d")
    assert len(source.read(0, 4)) == 4
    with pytest.raises(UsageError, match=r"rows 0 to 4 are images of 450 bytes when decoded.* a smaller --batch-size"):
        source.read(0, 5)
    files = as_batch(open_source(f"{tmp_path}/d::file").read(1, 6))
    assert len(open_files(files[:4], range(4))) == 4
    with pytest.raises(MemoryShortage, match="rows 1 to 5 are images of 450 bytes"):
        open_files(files, range(1, 6))


def test_random_damage_is_always_an_error_of_a_row(tmp_path: Path) -> None:
    contents = [content for name, (content, _) in bad_files().items() if name.startswith("cut")]
    chance = random.Random(0)
    (tmp_path / "d").mkdir()
    for row in range(150):
        content = bytearray(contents[row % len(contents)])
        for _ in range(chance.randrange(1, 20)):
            content[chance.randrange(min(len(content), 400))] = chance.randrange(256)
        (tmp_path / f"d/{row}.png").write_bytes(content)
    source = ImageSource(DataSpec(str(tmp_path / "d"), "64"))
    for row in range(150):
        try:
            source.read(row, row + 1)
        except InputError:
            continue


def test_the_first_size_counts_and_another_is_told_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/0.png").write_bytes(b"broken")
    for row, shape in enumerate([(6, 5), (5, 6), (6, 5)], 1):
        save(Image.fromarray(pixels(*shape)), tmp_path / f"d/{row}.png")
    source = open_source(str(tmp_path / "d"))
    assert source.row_type == RowType((3, 6, 5), np.dtype("u1"))
    with pytest.raises(InputError, match=r"row 2 \('2.png'\) is 5x6 .*not 6x5.*--data .*/d::HEIGHTxWIDTH"):
        source.read(1, 4)
    assert source.read(3, 4).shape == (1, 3, 6, 5)
    (tmp_path / "d/3.png").unlink()
    with pytest.raises(InputError, match=r"row 3 \('3.png'\): No such file"):
        source.read(3, 4)


def test_what_is_refused_at_opening(tmp_path: Path) -> None:
    (tmp_path / "d/b").mkdir(parents=True)
    (tmp_path / "d/readme.md").write_text("none")
    with pytest.raises(InputError, match=r"no images in it or under it \(.jpg, .jpeg, .png,"):
        open_source(str(tmp_path / "d"))
    (tmp_path / "d/b/x.png").write_text("none")
    with pytest.raises(InputError, match=r"row 0 \('b/x.png'\) is no image"):
        open_source(str(tmp_path / "d"))
    assert open_source(f"{tmp_path / 'd'}::7x5").row_type == RowType((3, 7, 5), np.dtype("u1"))
    for size in ("0", "7x", "x7", "-7", "7x7x7", "7 x 7", "\u0667", "label"):
        with pytest.raises(UsageError, match=r"HEIGHTxWIDTH|--columns label"):
            open_source(f"{tmp_path / 'd'}::{size}")
    with pytest.raises(InputError, match=r"has no column 'size'; it has image, path, label"):
        open_source(str(tmp_path / "d"), ["size"])
    with pytest.raises(InputError, match="No such file"):
        ImageSource(DataSpec(str(tmp_path / "gone")))


def test_digest_and_stamp(tmp_path: Path) -> None:
    folder_of(tmp_path)
    source, folder = open_source(str(tmp_path / "d")), tmp_path / "d"
    path = folder / source._files._paths[20]
    content, digest, stamp = path.read_bytes(), source.digest(), source.stamp()
    assert open_source(f"{folder}::6x5").digest() != digest
    os.utime(path, (1, 1))
    assert source.stamp() != stamp
    assert open_source(str(folder)).digest() == digest
    path.write_bytes(content[:-1] + b"?")
    assert open_source(str(folder)).digest() != digest
    path.write_bytes(content)
    path.rename(path.with_name(f"0{path.name}"))
    assert open_source(str(folder)).digest() != digest
    assert source.digest() != digest  # and no error
    assert source.stamp() != stamp


def test_two_threads_may_read_at_once(tmp_path: Path) -> None:
    expected = np.array([image for _, image in folder_of(tmp_path, 101, 120, 110)])
    source, found = open_source(str(tmp_path / "d")), [np.empty(0)] * 4

    def read(index: int) -> None:
        found[index] = np.concatenate([source.read(row, min(101, row + 9)) for row in range(0, 101, 9)])

    threads = [threading.Thread(target=read, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert all(np.array_equal(rows, expected) for rows in found)


@pytest.mark.launch
def test_images_are_predicted_by_three_ranks_and_bad_ones_set_aside(tmp_path: Path) -> None:
    expected = folder_of(tmp_path)
    bad = tmp_path / "d" / expected[17][0]
    bad.write_bytes(b"\xff\xd8\xff oh no")
    command = ["--model", "test_images:Means", "--data", "d", "--output", "p.npy", "--batch-size", "5"]
    command += ["--chunk-size", "5", "--on-error", "quarantine"]
    outcome = run(predict_command(*command, launcher=LAUNCHERS["mpirun-3"]), tmp_path)
    assert outcome.code == 0, outcome.output
    (line,) = (tmp_path / "p.npy.run/quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["row"] == 17
    assert f"row 17 ({expected[17][0]!r}) is no image" in json.loads(line)["error"]
    means = np.array([image.mean(axis=(1, 2)) for _, image in expected])
    means[17] = np.nan
    assert np.allclose(np.load(tmp_path / "p.npy"), means, rtol=0, atol=1e-9, equal_nan=True)
