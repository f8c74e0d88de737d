"""Rows of a `.tar` file in WebDataset's layout: members that share a name up to its first dot form a sample."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import xxhash

from runner.core.errors import InputError, UsageError
from runner.data.rows import Rows, RowTypes
from runner.sources.base import DataSpec, evenly
from runner.sources.files import open_file, read_range
from runner.sources.media.decode import SUFFIXES, Size, size_of
from runner.sources.media.image_reader import FileReader, ImageReader
from runner.sources.media.tar_fields import KINDS, NUMBERS, TEXTS, ArrayField, ClassField, Field, TextField
from runner.sources.media.tar_index import index_tar

KEY = "__key__"  # WebDataset's name for the common beginning of the names of a sample's members
_DIGESTED_SAMPLES = 64
_DIGESTED_BYTES = 4 << 20  # of each member


class TarSource:
    """A `.tar` file, whose members are read in place.

    The last suffix of a field's name decides its kind: images (uint8 `(3, height, width)` in RGB), text, such as `txt`
    and `json`, whole numbers, such as `cls` and `id` (int64 `()`), and `npy` arrays. A further text field is `__key__`,
    read only on request.

    Args:
        spec: its inner name may end in `@HEIGHTxWIDTH`, or be no more than that: each image is scaled to cover this
            size, and its middle is cut out. Without a size all must have that of the first. With `@file` an image is
            the bytes of its file, for consumers that decode images at their own sizes.

    Raises:
        UsageError: the size is invalid; files are passthrough columns.
        InputError: no such file or field, a field of another kind, an incomplete or compressed tar, sparse files, or
            links.
    """

    def __init__(self, spec: DataSpec) -> None:
        self._path, self._inner = spec.path, spec.inner
        self._file = open_file(spec.path)
        self._index = index_tar(self._file)
        self.num_rows = len(self._index.keys)
        size: Size | Literal["file"] | None = None
        if "@" in spec.inner and spec.inner not in self._index.places:
            inner, _, wanted = spec.inner.rpartition("@")
            size = "file" if wanted == "file" else size_of(wanted, f"{spec.what}::{spec.inner}")
            spec = replace(spec, inner=inner)
        names = spec.choose([*self._index.places, KEY], list(self._index.places), word="field")
        self._fields = {name: self._field(name, size) for name in names}
        if size and not any(map(_is_image, names)):
            raise UsageError(f"{spec.what}::{self._inner}: a size is for images, and {', '.join(names)} are none")
        if kept := [name for name in spec.keep if isinstance(self._fields[name], FileReader)]:
            raise UsageError(
                f"--keep {', '.join(kept)}: files cannot be kept beside predictions; --keep {KEY} names them"
            )
        types = {name: field.row_type for name, field in self._fields.items()}
        self.row_type: RowTypes = types if len(types) > 1 else types[names[0]]
        self.row_bytes = sum(field.row_bytes for field in self._fields.values())

    def read(self, start: int, stop: int) -> Rows:
        columns = {name: field.read(start, stop) for name, field in self._fields.items()}
        return columns if len(columns) > 1 else next(iter(columns.values()))

    def digest(self) -> str:
        state = xxhash.xxh3_128(f"{list(self._fields)} {self._inner} {self.num_rows}".encode())
        state.update(os.fsencode("\0".join(self._index.keys)))
        for name in self._fields:
            if name == KEY:
                continue
            places = self._index.places[name]
            state.update(places.sizes.tobytes())
            for row in evenly(self.num_rows, _DIGESTED_SAMPLES):
                offset = int(places.offsets[row])
                size = min(int(places.sizes[row]), _DIGESTED_BYTES)
                if offset >= 0:
                    state.update(read_range(self._file, offset, offset + size))
        return f"xxh3:{state.hexdigest()}"

    def stamp(self) -> str:
        return self._file.stamp()

    def _field(self, field: str, size: Size | Literal["file"] | None) -> Field:
        kind = field.rpartition(".")[2]
        if field == KEY:
            mean_bytes = sum(map(len, self._index.keys)) // self.num_rows
            return TextField(lambda row: os.fsencode(self._index.keys[row]), self._name(KEY), mean_bytes)
        places = self._index.places[field]
        name = self._name(field)

        def load(row: int) -> bytes:
            offset = int(places.offsets[row])
            if offset < 0:
                raise InputError(f"{name(row)} is missing")
            return read_range(self._file, offset, offset + int(places.sizes[row]))

        if _is_image(field):
            if size == "file":
                return FileReader(load, int(places.sizes.mean()))
            import PIL  # noqa: F401 - a missing library is reported here, not at the first row

            advice = (
                f"Bring all to one size with --data {self._path}::{field}@HEIGHTxWIDTH. Or leave it to the image "
                f"processor of a model folder: --data {self._path}::{field}@file"
            )
            return ImageReader(self.num_rows, load, name, size, advice)
        if kind in TEXTS:
            return TextField(load, name, int(places.sizes.mean()))
        if kind in NUMBERS:
            return ClassField(load, name)
        if kind == "npy":
            return ArrayField(self.num_rows, load, name)
        known = [other for other in self._index.places if _is_image(other) or other.rpartition(".")[2] in KINDS]
        raise InputError(
            f"--data {self._path}: field {field!r} has no known type. Choose among {', '.join([*known, KEY])} with "
            f"--data {self._path}::FIELD or --columns"
        )

    def _name(self, field: str) -> Callable[[int], str]:
        """Return a function from rows of a field to their names in messages."""
        return lambda row: f"--data {self._path}: row {row} ({self._index.keys[row]!r}): field {field!r}"


def _is_image(field: str) -> bool:
    return f".{field}".endswith(SUFFIXES)
