"""Index of the samples of a `.tar` file in WebDataset's layout, from one pass over the headers of its members."""

import io
import re
import tarfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from runner.core.errors import InputError, describe
from runner.sources.files import File, Stream, read_range

_SAMPLE = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)  # up to the first dot of the file name, and the rest
_METADATA = re.compile(r"__[^/]*__($|/)")  # WebDataset ignores these
_BUFFER_BYTES = 16 << 10  # holds several small members, and wastes little on a large one
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "Zstandard"}


@dataclass(frozen=True)
class Places:
    """The positions of a field in the file, by sample.

    Attributes:
        offsets: int64 `(samples,)`, of the first byte; -1 where the sample lacks the field.
        sizes: int64 `(samples,)`, in bytes; 0 where the sample lacks the field.
    """

    offsets: np.ndarray
    sizes: np.ndarray


@dataclass(frozen=True)
class TarIndex:
    """All samples, in the order of their first members.

    Attributes:
        keys: common beginnings of the names of each sample's members.
        places: positions of each field, by its name in lower case, in order of first appearance.
    """

    keys: list[str]
    places: dict[str, Places]


def index_tar(file: File) -> TarIndex:
    """Return the index of a file.

    Raises:
        InputError: it is not a tar file, is compressed, truncated or damaged, has a sparse member or a link, two
            members for the same field of a sample, or no samples.
    """
    rows: dict[str, int] = {}
    by_field: dict[str, tuple[array[int], ...]] = {}
    for member in _members(file):
        parts = _SAMPLE.fullmatch(member.name)
        if not parts or _METADATA.match(member.name) or not (member.isreg() or member.issym() or member.islnk()):
            continue
        if member.issparse() or not member.isreg():
            what = "sparse" if member.issparse() else "a link"
            raise InputError(
                f"--data {file.path}: member {member.name!r} is {what}, and rows are read in place. Write it again "
                "with tar --dereference --hard-dereference and without --sparse"
            )
        row = rows.setdefault(parts[1], len(rows))
        columns = by_field.setdefault(parts[2].lower(), (array("q"), array("q"), array("q")))
        for column, value in zip(columns, (row, member.offset_data, member.size), strict=True):
            column.append(value)
    keys = list(rows)
    if not keys:
        raise InputError(f"--data {file.path} holds no samples, which are files like 0001.jpg and 0001.cls")
    return TarIndex(keys, {field: _places(keys, field, columns, file) for field, columns in by_field.items()})


def _places(keys: list[str], field: str, columns: "tuple[array[int], ...]", file: File) -> Places:
    rows = np.array(columns[0], np.int64)
    repeated = np.flatnonzero(np.bincount(rows, minlength=len(keys)) > 1)
    if len(repeated):
        raise InputError(f"--data {file.path} has more than one member {f'{keys[repeated[0]]}.{field}'!r}")
    places = Places(np.full(len(keys), -1, np.int64), np.zeros(len(keys), np.int64))
    places.offsets[rows] = columns[1]
    places.sizes[rows] = columns[2]
    return places


def _members(file: File) -> Iterator[tarfile.TarInfo]:
    """Yield all members without keeping them; raise InputError where the file is not a complete tar file."""
    beginning = read_range(file, 0, min(file.size, 8))
    for magic, name in _COMPRESSED.items():
        if beginning.startswith(magic):
            raise InputError(f"--data {file.path} is compressed by {name}; rows are read in place. Decompress it first")
    try:
        tar = tarfile.TarFile(
            fileobj=io.BufferedReader(Stream(file), _BUFFER_BYTES), encoding="utf-8", errors="surrogateescape"
        )
    except tarfile.TarError as error:
        raise InputError(f"--data {file.path} is not a tar file: {describe(error)}") from error
    try:
        while (member := tar.next()) is not None:
            if member.size < 0:  # the standard library would seek back, and loop forever
                raise InputError(f"--data {file.path} is damaged: its member {member.name!r} has a negative size")
            if member.isreg() and not member.issparse() and member.offset_data + member.size > file.size:
                raise InputError(
                    f"--data {file.path} is truncated: its member {member.name!r} ends at byte "
                    f"{member.offset_data + member.size}, the file at {file.size}"
                )
            yield member
            tar.members.clear()  # type: ignore[attr-defined]
    except (tarfile.TarError, ValueError) as error:
        raise InputError(f"--data {file.path} is truncated or damaged: {describe(error)}") from error
    mark = read_range(file, min(tar.offset, file.size), min(tar.offset + tarfile.BLOCKSIZE, file.size))
    if len(mark) < tarfile.BLOCKSIZE:
        raise InputError(
            f"--data {file.path} is truncated, or was never closed: the mark at the end of a tar is missing"
        )
    if any(mark):
        raise InputError(f"--data {file.path} is damaged: there is no member at byte {tar.offset}, nor the end")
