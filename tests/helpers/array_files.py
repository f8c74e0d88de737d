"""Arrays by name, in .npz, HDF5 and Zarr files as the libraries write them, and models that take them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import zarr
from torch import nn

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
