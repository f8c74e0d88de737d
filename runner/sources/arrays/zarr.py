"""Rows of the arrays in a Zarr folder, read by zarr."""

import math
import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from runner.core.checksum import checksum_of_text
from runner.core.errors import InputError, UsageError, describe
from runner.core.urls import is_url
from runner.data.rows import RAGGED, TEXT, Column, RowType, name_rows
from runner.sources.arrays.anndata import AnnDataSource, is_anndata, refuse_null_option
from runner.sources.arrays.named import ByChunks, NamedSource, text_of, the_only
from runner.sources.arrays.packed import Packing, find_packing
from runner.sources.arrays.unwritten import note_of_chunks
from runner.sources.base import DataSpec, Source, check_decoded, check_dtype, no_such
from runner.sources.files import file_stamp

_TEXT_KINDS = "SUT"  # bytes of fixed length, str of fixed length, str of variable length
_GUESSED_TEXT_BYTES = 64
_LEAST_VERSION = (3, 1)
_XARRAY_FILLS, _DIMENSIONS = 2, "_ARRAY_DIMENSIONS"


class ZarrSource(NamedSource):
    """A Zarr array or group, of format 2 or 3: arrays by their paths in it, whose first axis is the rows.

    Arrays may be of numbers or text. The latest chunk of each is kept in memory: small chunks (a few MiB) suit random
    access. In Zarr a missing chunk stands for the array's fill value.

    Raises:
        UsageError: zarr is older than version 3.1, or names are given for a folder that is a single array.
        InputError: no such folder or array, no Zarr folder, several arrays and none chosen, arrays with different
            numbers of rows, or of a type that is neither numbers nor text.
    """

    def __init__(self, spec: DataSpec) -> None:
        import zarr

        root, path = open_folder(spec)
        self._path = path
        lock = threading.Lock()
        if isinstance(root, zarr.Array):
            spec.refuse_names()
            arrays = {"": root}
        else:
            names = spec.names(lambda: the_only(path, _arrays(root), "array"))
            arrays = {name: _find(root, path, name) for name in names}
        self._chunk_rows = max((array.chunks or (1,))[0] for array in arrays.values())
        self._opened = arrays
        super().__init__(
            path,
            {
                name: ByChunks(ZarrArray(array, _what(path, name)), array.chunks[0], lock, len(arrays))
                for name, array in arrays.items()
            },
        )

    @property
    def notes(self) -> list[str]:
        notes = [note_on_zarr(array, _what(self._path, name)) for name, array in self._opened.items()]
        return list(filter(None, notes))

    def digest(self) -> str:
        return self.digest_of_samples(self._chunk_rows)

    def stamp(self) -> str:
        return stamp_of_folder(self._path)


def open_zarr(spec: DataSpec) -> Source:
    """Return the source of a Zarr folder, or of AnnData in one."""
    root, path = open_folder(spec)
    if not hasattr(root, "shape") and is_anndata(root):
        return AnnDataSource(spec, root, ZarrArray, lambda: stamp_of_folder(path), note_on_zarr)
    refuse_null_option(spec)
    return ZarrSource(spec)


def open_folder(spec: DataSpec) -> tuple[Any, str]:
    """Return the opened array or group of a Zarr folder, and its path.

    Raises:
        UsageError: zarr is too old.
        InputError: it is no such folder.
    """
    zarr = _import_zarr(spec)
    if is_url(spec.path):
        raise InputError(f"{spec.what}: Zarr is read from local folders alone; copy it to one")
    path = spec.path.rstrip("/") or "/"
    try:
        return zarr.open(path, mode="r"), path
    except Exception as error:
        raise InputError(f"--data {path} is not a Zarr folder, or is damaged: {describe(error)}") from error


def note_on_zarr(array: Any, what: str) -> str:
    """Return a note on the chunks of an array that are not there; empty where all are."""
    pieces = array.shards or array.chunks  # shards are files of several chunks
    written = array.nchunks_initialized * math.prod(array.chunks) // math.prod(pieces)
    return note_of_chunks(written, array.shape, pieces, array.fill_value, what)


def stamp_of_folder(folder: str) -> str:
    """Return the stamp of all files in a folder."""
    return checksum_of_text(" ".join(f"{name} {file_stamp(name)}" for name in _files(folder)))


class ZarrArray:
    """An array of a folder.

    Args:
        array: the array.
        what: the array, for messages.
    """

    def __init__(self, array: Any, what: str) -> None:
        self._array = array
        self._what = what
        self._packing: Packing | None = None
        if not array.shape:
            raise InputError(f"{self._what} is a single value; its first axis must be the rows")
        chunk_bytes = math.prod(array.chunks) * array.dtype.itemsize
        check_decoded(chunk_bytes, self._what, "chunks", "Save it again with smaller ones: create_array(chunks=...)")
        self.num_rows = array.shape[0]
        shape = array.shape[1:]
        dtype = array.dtype
        if dtype.kind in _TEXT_KINDS:
            if shape:
                raise InputError(f"{self._what} is of shape {array.shape}, of text; there must be one in each row")
            self.row_type = RowType(RAGGED, TEXT)
            self.row_bytes = dtype.itemsize if dtype.kind == "S" else _GUESSED_TEXT_BYTES
            return
        check_dtype(dtype, self._what)
        self._packing = find_packing(_attributes(array), dtype, self._what)
        self.row_type = RowType(shape, self._packing.dtype if self._packing else dtype.newbyteorder("="))
        self.row_bytes = self.row_type.row_bytes

    def read(self, start: int, stop: int) -> Column:
        try:
            values = np.asarray(self._array[start:stop])
            if self._packing:
                values = self._packing.unpack(values)
            if self.row_type.is_ragged:
                return text_of(values)
            return np.array(values, self.row_type.dtype, order="C")
        except Exception as error:  # a damaged chunk raises one of many exception types
            rows = name_rows(range(start, stop))
            raise InputError(f"{self._what}: {rows} cannot be read: {describe(error)}") from error


def _what(path: str, name: str) -> str:
    return f"--data {path}::{name}".removesuffix("::")


def _attributes(array: Any) -> dict[str, Any]:
    """Return the attributes of an array; in format 2, xarray stores the one of missing values as Zarr's fill value."""
    attributes = dict(array.attrs)
    if array.metadata.zarr_format == _XARRAY_FILLS and _DIMENSIONS in attributes and array.fill_value is not None:
        attributes["_FillValue"] = array.fill_value
    return attributes


def _import_zarr(spec: DataSpec) -> Any:
    import zarr

    # before 3.1 it could unpickle arrays, which runs code; later ones refuse to open these
    if tuple(map(int, zarr.__version__.split(".")[:2])) < _LEAST_VERSION:
        raise UsageError(f"{spec.what}: reading Zarr needs zarr 3.1 or later; this is {zarr.__version__}")
    return zarr


def _arrays(group: Any) -> list[str]:
    """Return the paths of all arrays, sorted."""
    import zarr

    return sorted(name for name, member in group.members(max_depth=None) if isinstance(member, zarr.Array))


def _find(group: Any, path: str, name: str) -> Any:
    """Return the array of a path in the group."""
    import zarr

    try:
        array = group[name]
    except KeyError:
        raise no_such(f"--data {path}", name, _arrays(group), "array") from None
    except Exception as error:
        raise InputError(f"--data {path}::{name} cannot be opened: {describe(error)}") from error
    if not isinstance(array, zarr.Array):
        raise InputError(
            f"--data {path}::{name} is a group, not an array; it has {', '.join(_arrays(array)) or 'none'}"
        )
    return array


def _files(folder: str) -> Iterator[str]:
    """Yield all files in a folder, in a fixed order."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        yield from (os.path.join(parent, name) for name in sorted(names))
