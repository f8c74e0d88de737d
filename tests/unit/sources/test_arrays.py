"""Arrays by name, in .npz, HDF5 and Zarr: any range of rows, against what the libraries read themselves."""

import json
import os
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse
import torch
import zarr
from launch import LAUNCHERS, predict_command, predict_here, run
from torch import nn

from runner.core.errors import InputError, RunnerError, UsageError
from runner.data.rows import RAGGED, TEXT, Ragged, RowType, rows_checksum, take
from runner.data.tensors import as_batch
from runner.sources import base, open_source
from runner.sources.arrays import named, npz

NUM_ROWS, CHUNK = 1009, 64
RANGES = [(0, NUM_ROWS), (0, 1), (NUM_ROWS - 1, NUM_ROWS), (63, 65), (64, 128), (100, 900), (900, 1000), (7, 7)]
RNG = np.random.default_rng(0)
NUMBERS: dict[str, np.ndarray] = {
    "images": RNG.normal(size=(NUM_ROWS, 3, 6, 5)).astype("<f4"),
    "big": np.arange(NUM_ROWS * 4).reshape(NUM_ROWS, 4).astype(">i4"),
    "flat": np.arange(NUM_ROWS, dtype="u1"),
    "good": np.arange(NUM_ROWS) % 3 == 0,
    "half": np.arange(NUM_ROWS).astype("f2"),
    "complex": np.arange(NUM_ROWS).astype("c8") * 1j,
    "empty": np.zeros((NUM_ROWS, 0), "f8"),
}
TEXTS = ["", "möglich\n", "a", "何か longer"] * NUM_ROWS
SEQUENCES = [np.arange(row % 7, dtype="i8") for row in range(NUM_ROWS)]
FIELDS = np.zeros(NUM_ROWS, np.dtype([("a", "u1"), ("b", ">f8", (2,)), ("c", "?")], align=True))
FIELDS["a"], FIELDS["b"] = NUMBERS["flat"], NUMBERS["big"][:, :2]


class Both(nn.Module):
    def forward(self, images: torch.Tensor, flat: torch.Tensor) -> torch.Tensor:
        return images.sum(dim=(1, 2, 3)) + flat


class Lengths(nn.Module):
    """Of padded sequences: the mask tells what counts."""

    def forward(self, rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return mask.sum(dim=1)


def lengths(texts: list[str]) -> torch.Tensor:
    """A `--preprocess`."""
    return torch.tensor([len(text) for text in texts])


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(path, **arrays)


def write_compressed(path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez_compressed(path, **arrays)


def write_hdf5(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with h5py.File(path, "w") as file:
        for index, (name, array) in enumerate(arrays.items()):
            chunked = {
                "chunks": (min(len(array), CHUNK), *array.shape[1:]),
                "compression": "gzip",
                "shuffle": True,
                "fletcher32": True,
            }
            file.create_dataset(name, data=array, **(chunked if array.size and index % 3 != 1 else {}))


def write_zarr(zarr_format: Any) -> Callable[[Path, dict[str, np.ndarray]], None]:
    def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
        group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
        for index, (name, array) in enumerate(arrays.items()):
            shards = {"shards": (4 * CHUNK, *array.shape[1:])} if zarr_format == 3 and index % 2 == 0 else {}
            shape = (CHUNK, *(max(1, size) for size in array.shape[1:]))
            if array.size:
                group.create_array(name, data=array, chunks=shape, **shards)
            else:
                group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=shape)

    return write


WRITERS: dict[str, tuple[str, Callable[[Path, dict[str, np.ndarray]], None]]] = {
    "npz": ("d.npz", write_npz),
    "compressed": ("d.npz", write_compressed),
    "hdf5": ("d.h5", write_hdf5),
    "zarr2": ("d.zarr", write_zarr(2)),
    "zarr3": ("d.zarr", write_zarr(3)),
}


def write(kind: str, folder: Path, arrays: dict[str, np.ndarray] = NUMBERS) -> str:
    name, writer = WRITERS[kind]
    writer(folder / name, arrays)
    return str(folder / name)


def reading(path: str) -> Any:
    """What the library makes of a file."""
    if path.endswith(".npz"):
        return np.load(path)
    return zarr.open(path, mode="r") if path.endswith(".zarr") else h5py.File(path)


def assert_same(found: Any, expected: np.ndarray) -> None:
    assert found.dtype.isnative
    assert found.flags.c_contiguous
    assert found.flags.owndata or found.base.flags.owndata
    assert (found.dtype, found.shape) == (expected.dtype.newbyteorder("="), expected.shape)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("kind", WRITERS)
def test_any_rows_are_what_the_library_reads(kind: str, tmp_path: Path) -> None:
    path = write(kind, tmp_path)
    theirs = reading(path)
    for name, array in NUMBERS.items():
        if not array.size:  # not without another column
            continue
        source = open_source(f"{path}::{name}")
        assert source.num_rows == NUM_ROWS
        assert source.row_type == RowType(array.shape[1:], array.dtype.newbyteorder("="))
        assert source.row_bytes == array[0].nbytes
        for start, stop in RANGES:
            assert_same(source.read(start, stop), theirs[name][start:stop])
        for batch in range(0, NUM_ROWS, 50):
            assert_same(source.read(batch, min(NUM_ROWS, batch + 50)), theirs[name][batch : batch + 50])
    with_empty = open_source(path, ["empty", "flat"]).read(7, 9)["empty"]
    assert_same(with_empty, theirs["empty"][7:9])
    both = open_source(path, ["flat", "images"], ["good", "flat"])
    assert list(both.row_type) == list(both.read(3, 5)) == ["flat", "images", "good"]
    assert_same(both.read(60, 70)["images"], NUMBERS["images"][60:70])
    assert open_source(f"{path}::flat", keep=["good"]).read(5, 6)["good"] == [False]
    assert open_source(path, ["flat"]).row_type == RowType((), np.dtype("u1"))


@pytest.mark.parametrize("kind", WRITERS)
def test_no_rows(kind: str, tmp_path: Path) -> None:
    path = write(kind, tmp_path, {"x": np.zeros((0, 4), "f4")})
    source = open_source(path)
    assert (source.num_rows, source.row_type) == (0, RowType((4,), np.dtype("f4")))
    assert source.read(0, 0).shape == (0, 4)
    assert source.digest() == open_source(path).digest()


@pytest.mark.parametrize("kind", WRITERS)
def test_two_threads_read_alike(kind: str, tmp_path: Path) -> None:
    source = open_source(write(kind, tmp_path), ["images", "flat"])
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda row: source.read(row, row + 20), [*range(0, 900, 13), *range(900, 0, -17)]))
    for row, rows in zip([*range(0, 900, 13), *range(900, 0, -17)], found, strict=True):
        assert np.array_equal(rows["images"], NUMBERS["images"][row : row + 20])


@pytest.mark.parametrize("kind", WRITERS)
def test_digest_and_stamp_tell_data_sets_apart(kind: str, tmp_path: Path) -> None:
    arrays = {"x": np.zeros((NUM_ROWS, 7)), "y": np.zeros(NUM_ROWS)}
    path = write(kind, tmp_path, arrays)
    digests, stamps = {open_source(path, ["x"]).digest()}, {open_source(path, ["x"]).stamp()}
    arrays["y"][:] = 1
    write(kind, tmp_path, arrays)
    digests.add(open_source(path, ["x"]).digest())
    assert len(digests) == 1
    stamps.add(open_source(path, ["x"]).stamp())
    arrays["x"][617, 3] = 1
    write(kind, tmp_path, arrays)
    digests.add(open_source(path, ["x"]).digest())
    stamps.add(open_source(path, ["x"]).stamp())
    assert (len(digests), len(stamps)) == (2, 3)
    (tmp_path / "elsewhere").mkdir()
    assert open_source(write(kind, tmp_path / "elsewhere", arrays), ["x"]).digest() in digests


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


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_of_every_layout(save: Callable[..., None], tmp_path: Path) -> None:
    arrays = {"turned": np.asfortranarray(NUMBERS["images"]), "fields": FIELDS, "folder/x": NUMBERS["big"]}
    save(tmp_path / "d.npz", **arrays)
    for name, array in arrays.items():
        assert np.array_equal(open_source(f"{tmp_path}/d.npz::{name}").read(3, 900), array[3:900])
    assert list(open_source(f"{tmp_path}/d.npz").row_type) == list(arrays)  # by default all
    with zipfile.ZipFile(tmp_path / "d.npz") as archive:  # behind something, with an extra field in front of the values
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    (tmp_path / "e.npz").write_bytes(b"what is in front\n")
    with zipfile.ZipFile(tmp_path / "e.npz", "a") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.extra = b"\xff\xff\x03\x00abc"
            archive.writestr(info, content)
    assert np.array_equal(open_source(f"{tmp_path}/e.npz::folder/x").read(3, 900), NUMBERS["big"][3:900])
    assert open_source(f"{tmp_path}/e.npz").digest() == open_source(f"{tmp_path}/d.npz").digest()


@pytest.mark.parametrize("kind", ["npz", "compressed", "hdf5"])
def test_behind_a_url(kind: str, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    path = Path(write(kind, tmp_path))
    with fsspec.open(f"memory://arrays/{path.name}", "wb") as file:
        file.write(path.read_bytes())
    source, local = (open_source(where, ["big", "images"]) for where in (f"memory://arrays/{path.name}", str(path)))
    assert np.array_equal(source.read(5, 777)["big"], NUMBERS["big"][5:777])
    assert source.digest() == local.digest()
    stamp = source.stamp()
    assert stamp == open_source(f"memory://arrays/{path.name}::big").stamp()
    with pytest.raises(InputError, match="none"):
        open_source(f"memory://arrays/none{path.suffix}::big")


def test_compressed_arrays_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("compressed", tmp_path)
    whole = open_source(path, ["half", "flat"])
    monkeypatch.setattr(npz, "_KEPT_BYTES", 10_000)
    assert open_source(f"{path}::flat").num_rows == NUM_ROWS
    with pytest.raises(
        InputError, match=r"d\.npz: .* would hold images in memory: 355 KiB .* numpy\.savez or as \.npy"
    ):
        open_source(f"{path}::images")
    with pytest.raises(InputError, match=r"would hold complex, half in memory: 9\.85 KiB of at most 9\.77 KiB"):
        open_source(path, ["complex", "half"])
    # of the first rows, no more than these is decompressed; what is column-major is needed completely
    few = open_source(path, ["images", "half"], most_rows=20)
    assert_same(few.read(15, 20)["images"], NUMBERS["images"][15:20])
    assert few.num_rows == NUM_ROWS
    assert few.digest() == open_source(path, ["images", "half"], most_rows=9).digest()
    assert np.array_equal(whole.read(1000, 1009)["half"], NUMBERS["half"][1000:])
    np.savez_compressed(tmp_path / "e.npz", x=np.asfortranarray(NUMBERS["images"][:60]))
    with pytest.raises(InputError, match="would hold x in memory"):
        open_source(f"{tmp_path}/e.npz", most_rows=1)
    command = ["--model", "zoo:Identity", "--data", f"{path}::images", "--output", "p.npy"]
    assert predict_here(*command, folder=tmp_path).code == 65
    assert predict_here(*command, "--skip", "3", "--limit", "9", folder=tmp_path).code == 0
    assert np.array_equal(np.load(tmp_path / "p.npy"), NUMBERS["images"][3:12])


def test_pieces_too_large_to_be_decoded_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_DECODED_BYTES", 20_000)
    for kind in ("hdf5", "zarr2", "zarr3"):
        path = write(kind, tmp_path)
        assert open_source(f"{path}::flat").num_rows == NUM_ROWS
        with pytest.raises(InputError, match=r"images has chunks of 22\.5 KiB when decoded.*chunks=\.\.\."):
            open_source(f"{path}::images")
    table = pa.table({"same": np.zeros(4000), "word": ["word"] * 4000, "empty": [""] * 4000})
    pq.write_table(table, tmp_path / "d.parquet", row_group_size=2400)
    for column in table.column_names:
        assert open_source(f"{tmp_path}/d.parquet", [column]).num_rows == 4000
    for columns in (["same", "word"], ["empty", "word"]):
        with pytest.raises(InputError, match=r"row groups of 37\.5 KiB .*--columns, or save it .*row_group_size"):
            open_source(f"{tmp_path}/d.parquet", columns)


def write_hdf5_of_all_types(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("text", data=TEXTS[:NUM_ROWS], dtype=h5py.string_dtype(), chunks=(CHUNK,), compression=1)
        fixed = np.array([text.encode() for text in TEXTS[:NUM_ROWS]], h5py.string_dtype("utf-8", 16))
        file.create_dataset("fixed", data=fixed, chunks=(CHUNK,), compression=1)
        file["letters"] = np.array([b"x", b""] * CHUNK, "S1")
        sequences = file.create_dataset("sequences", (NUM_ROWS,), h5py.vlen_dtype("i8"), chunks=(CHUNK,))
        for row, sequence in enumerate(SEQUENCES):
            sequences[row] = sequence
        flags = file.create_dataset("flags", (5,), h5py.vlen_dtype(bool))
        flags[3] = [True, False]
        file["fields"] = FIELDS
        file.create_dataset("choice", data=np.array([0, 1, 0], "i2"), dtype=h5py.enum_dtype({"no": 0, "yes": 1}, "i2"))
        file.create_dataset("vectors", (5, 2), np.dtype((">f4", (3,))))[:] = np.ones((5, 2, 3))
        file["one"] = 3.0
        file["nothing"] = h5py.Empty("f4")
        file["pointers"] = np.array([file["text"].ref], h5py.ref_dtype)
        file["dates"] = np.array(["2020-01-01"], "M8[s]").astype(h5py.opaque_dtype("M8[s]"))
        file["long"] = np.zeros(3, np.longdouble)
        file.create_dataset("table of text", data=[["a", "b"]], dtype=h5py.string_dtype())
        file.create_dataset("turned", (1,), h5py.vlen_dtype(np.dtype(">i4")))
        file["deep"] = np.zeros(3, [("x", [("y", "f4")])])
        file["named"] = np.zeros(3, [("name", "S3"), ("y", "f4")])
        file["broken"] = h5py.SoftLink("/nowhere")
        file["other file"] = h5py.ExternalLink("nowhere.h5", "/x")
        file["group/inner"] = np.arange(3)


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


def test_zarr_text_fields_and_one_array(tmp_path: Path) -> None:
    for zarr_format in (2, 3):
        group = zarr.open_group(tmp_path / "d.zarr", mode="w", zarr_format=zarr_format)
        text = group.create_array("a/text", shape=(NUM_ROWS,), dtype=str, chunks=(CHUNK,))
        text[:] = np.array(TEXTS[:NUM_ROWS], dtype=object)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that format 3 does not specify these types
            group.create_array("a/wide", data=np.array(TEXTS[:NUM_ROWS]), chunks=(CHUNK,))
            group.create_array("bytes", data=np.array([b"x", b"yz"] * 3), chunks=(2,))
        group.create_array("dates", data=np.zeros(6, "M8[s]"))
        group.create_array("one", data=np.array(3.0))
        group.create_array("table of text", shape=(3, 2), dtype=str)
        path = f"{tmp_path}/d.zarr"
        for name in ("a/text", "a/wide"):
            source = open_source(f"{path}::{name}")
            assert source.row_type == RowType(RAGGED, TEXT)
            for start, stop in RANGES:
                assert as_batch(source.read(start, stop)) == TEXTS[start:stop]
        assert as_batch(open_source(f"{path}/::bytes").read(1, 4)) == ["yz", "x", "yz"]
        for name, message in {
            "dates": "is of dtype datetime64",
            "one": "is a single value",
            "table of text": "there must be one in each row",
            "a": "is a group, not an array; it has text, wide",
            "b": "has no array 'b'; it has a/text, a/wide, bytes",
        }.items():
            with pytest.raises(InputError, match=message):
                open_source(f"{path}::{name}")
        with pytest.raises(InputError, match="has several arrays: a/text, a/wide"):
            open_source(path)
        alone = zarr.create_array(tmp_path / "e.zarr", data=NUMBERS["big"], zarr_format=zarr_format, overwrite=True)
        assert np.array_equal(open_source(f"{tmp_path}/e.zarr/").read(1, 99), alone[1:99])
        with pytest.raises(UsageError, match="has no columns to choose x from"):
            open_source(f"{tmp_path}/e.zarr::x")
    fields = zarr.open_group(tmp_path / "f.zarr", mode="w", zarr_format=2).create_array(
        "x", shape=(9,), chunks=(4,), dtype=[("a", "u1"), ("b", ">f4")]
    )
    fields[:] = np.ones(9, fields.dtype)
    assert np.array_equal(open_source(f"{tmp_path}/f.zarr").read(3, 5), np.ones(2, [("a", "u1"), ("b", "f4")]))


def test_zarr_arrays_of_pickles_are_not_opened(tmp_path: Path) -> None:
    pickling = {"compressors": numcodecs.Pickle(), "filters": None, "zarr_format": 2}
    zarr.create_array(tmp_path / "d.zarr", data=np.arange(8.0), **pickling)
    with pytest.raises(InputError, match=r"d\.zarr is not a Zarr folder, or is damaged: .*'pickle'"):
        open_source(f"{tmp_path}/d.zarr")


@pytest.mark.parametrize("kind", WRITERS)
def test_names_that_are_not_there_and_files_that_are_none(kind: str, tmp_path: Path) -> None:
    path = Path(write(kind, tmp_path, {"a": np.arange(5), "b": np.arange(6)}))
    with pytest.raises(InputError, match=rf"--data .*{path.name} has no (array|dataset) 'c'; it has a, b"):
        open_source(str(path), ["a"], ["c"])
    with pytest.raises(InputError, match="must have equally many rows; these have a: 5, b: 6"):
        open_source(str(path), ["a", "b"])
    bad = path.with_stem("bad")
    with pytest.raises(InputError, match="bad"):
        open_source(f"{bad}::a")
    contents = [b"", b"no such format" * 100]
    if path.is_file():
        whole = path.read_bytes()
        contents += [whole[:size] for size in (1, 8, 100, len(whole) // 2, len(whole) - 1)]
    for content in contents:
        bad.write_bytes(content)
        with pytest.raises(InputError, match="bad"):
            open_source(f"{bad}::a")


@pytest.mark.parametrize("kind", WRITERS)
def test_damage_anywhere_is_an_input_error(kind: str, tmp_path: Path) -> None:
    path = Path(write(kind, tmp_path, {"x": NUMBERS["big"], "y": NUMBERS["flat"]}))
    rng = np.random.default_rng(7)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for file in files[::3]:
        whole = file.read_bytes()
        for position in rng.integers(0, len(whole), 200 // len(files) + 1).tolist():
            file.write_bytes(whole[:position] + rng.bytes(4) + whole[position + 4 :])
            try:
                source = open_source(f"{path}::x")
                source.digest()
                source.read(0, source.num_rows)
            except RunnerError:
                pass
        file.write_bytes(whole)
    assert np.array_equal(open_source(f"{path}::x").read(0, NUM_ROWS), NUMBERS["big"])


def damage(path: Path, array: np.ndarray) -> range:
    """Spoil a chunk; the rows in it."""
    first = CHUNK * 3
    if path.is_dir():
        (chunk,) = [file for file in path.rglob("3*") if file.is_file() and file.name in ("3", "3.0")] or [
            path / "x/c/3/0"
        ]
        os.truncate(chunk, chunk.stat().st_size // 2)
    else:
        with h5py.File(path) as file:
            place = file["x"].id.get_chunk_info_by_coord((first, 0))
        with path.open("r+b") as raw:
            raw.seek(place.byte_offset + place.size // 2)
            raw.write(b"spoilt")
    return range(first, first + CHUNK)


def write_flat_zarr(path: Path, zarr_format: Any, array: np.ndarray) -> None:
    zarr.create_group(path, zarr_format=zarr_format).create_array("x", data=array, chunks=(CHUNK, array.shape[1]))


@pytest.mark.parametrize("kind", ["hdf5", "zarr2", "zarr3"])
def test_a_damaged_chunk_is_set_aside(kind: str, tmp_path: Path) -> None:
    array, path = np.arange(NUM_ROWS * 3.0).reshape(NUM_ROWS, 3) + 1, tmp_path / WRITERS[kind][0]
    if kind == "hdf5":
        write_hdf5(path, {"x": array})
    else:
        write_flat_zarr(path, int(kind[-1]), array)
    bad = damage(path, array)
    source = open_source(f"{path}::x")
    with pytest.raises(InputError, match=r"d\.(h5|zarr)::x: rows 192 to 255 cannot be read"):
        source.read(bad[0], bad[0] + 1)
    assert np.array_equal(source.read(bad[0] - 1, bad[0]), array[bad[0] - 1 : bad[0]])
    assert np.array_equal(source.read(bad.stop, bad.stop + 1), array[bad.stop : bad.stop + 1])
    command = ["--model", "zoo:Identity", "--data", f"{path}::x", "--output", "p.npy"]
    outcome = predict_here(*command, folder=tmp_path)
    assert (outcome.code, "rows 192 to 255 cannot be read" in outcome.output) == (65, True), outcome.output
    outcome = predict_here(*command, "--on-error", "quarantine", folder=tmp_path)
    assert outcome.code == 0, outcome.output
    lines = (tmp_path / "p.npy.run/quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == list(bad)
    array[bad] = np.nan
    assert np.array_equal(np.load(tmp_path / "p.npy"), array, equal_nan=True)


def test_a_damaged_compressed_array_is_named(tmp_path: Path) -> None:
    path = Path(write("compressed", tmp_path, {"x": RNG.normal(size=(NUM_ROWS, 50))}))
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"spoilt")
    source = open_source(str(path))
    for row in (0, 900):
        with pytest.raises(InputError, match=r"d\.npz::x cannot be decompressed"):
            source.read(row, row + 1)


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


@pytest.mark.launch
@pytest.mark.parametrize(("kind", "launcher"), [("npz", "mpirun-3"), ("hdf5", "mpirun-2"), ("zarr3", "mpirun-2")])
def test_arrays_are_predicted_on_several_ranks(kind: str, launcher: str, tmp_path: Path) -> None:
    path = write(kind, tmp_path)
    command = ["--model", "test_arrays:Both", "--data", path, "--columns", "images,flat", "--output", "p.npy"]
    outcome = run(predict_command(*command, "--batch-size", "16", launcher=LAUNCHERS[launcher]), tmp_path)
    assert outcome.code == 0, outcome.output
    expected = NUMBERS["images"].sum(axis=(1, 2, 3)) + NUMBERS["flat"]
    assert np.allclose(np.load(tmp_path / "p.npy"), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("text", ["--model", "zoo:Identity", "--preprocess", "test_arrays:lengths"]),
        ("sequences", ["--model", "test_arrays:Lengths"]),
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


def test_a_sparse_matrix_is_not_read_as_its_values(tmp_path: Path) -> None:
    scipy.sparse.save_npz(tmp_path / "s.npz", scipy.sparse.eye(4, format="csr"))
    for data in (f"{tmp_path}/s.npz", f"{tmp_path}/s.npz::data"):
        with pytest.raises(InputError, match=r"is a sparse matrix of SciPy. Save it dense"):
            open_source(data)
