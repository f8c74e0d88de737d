"""Rows that are the images in a folder and its subfolders, read by Pillow."""

import os
from dataclasses import replace

import numpy as np
import xxhash

from runner.core.errors import InputError, UsageError
from runner.data.rows import RAGGED, TEXT, Column, Rows, RowType, RowTypes
from runner.sources.base import DataSpec, evenly
from runner.sources.left_out import describe_files, note_on_others, refuse_tables
from runner.sources.media.decode import SUFFIXES, Size, size_of
from runner.sources.media.image_reader import FileReader, ImageReader
from runner.sources.tables.text_rows import text_rows

_COLUMNS = ("image", "path", "label", "file")
_DIGESTED_FILES = 64
_DIGESTED_BYTES = 4 << 20  # of each file
_MOST_STATS = 10_000  # each is a request to the server of a shared file system


class ImageSource:
    """The images in a folder and its subfolders, in order of their paths; hidden files and other files are ignored.

    Columns are `image`, uint8 `(3, height, width)` in RGB; `path`, the path relative to the folder, text; `label`, the
    name of the folder that directly holds the image, text; and `file`, the bytes of the file, for consumers that decode
    images at their own sizes. The default is `image` alone.

    Args:
        spec: its inner name is `HEIGHTxWIDTH` or one number: every image is scaled to cover this size, bilinearly and
            with antialiasing, and its middle is cut out. Without it all must have the size of the first readable one.
            Or `file`, where no columns are requested.

    Raises:
        UsageError: the size is invalid; `file` is a passthrough column.
        InputError: no such folder or column; no images; none of the first 100 can be read, so the size is unknown.
    """

    def __init__(self, spec: DataSpec) -> None:
        self._path, self._inner = spec.path, spec.inner
        inner, default = ("", "file") if spec.inner == "file" and not spec.columns else (spec.inner, "image")
        names = replace(spec, inner="").choose(_COLUMNS, [default])
        if "file" in spec.keep:
            raise UsageError("--keep file: files cannot be kept beside predictions; --keep path keeps their names")
        if inner in _COLUMNS:
            raise UsageError(f"{spec.what}::{inner}: columns of a folder of images are chosen with --columns {inner}")
        size = size_of(inner, f"{spec.what}::{inner}") if inner else None
        self._files = _find_images(self._path)
        if not self._files:
            refuse_tables(spec.what, [self._path])
            raise InputError(
                f"{spec.what} is a folder with no images in it or under it ({', '.join(SUFFIXES)})"
                f"{describe_files(self._path)}"
            )
        self.num_rows = len(self._files)
        self._types = dict.fromkeys(names, RowType(RAGGED, TEXT))
        self._readers = {name: self._reader(name, size) for name in names if name in ("image", "file")}
        self._types |= {name: reader.row_type for name, reader in self._readers.items()}
        self.row_bytes = sum(reader.row_bytes for reader in self._readers.values())
        for name in self._types.keys() - self._readers.keys():
            self.row_bytes += sum(len(_text(name, file)) for file in self._files) // self.num_rows
        self.row_type: RowTypes = self._types if len(names) > 1 else self._types[names[0]]

    def read(self, start: int, stop: int) -> Rows:
        columns = {name: self._column(name, start, stop) for name in self._types}
        return columns if len(columns) > 1 else next(iter(columns.values()))

    def digest(self) -> str:
        state = xxhash.xxh3_128(f"{list(self._types)} {self._inner} {self.num_rows}".encode())
        state.update(os.fsencode("\0".join(self._files)))
        state.update(np.array(self._stats(), np.int64)[:, 0].tobytes())
        for row in evenly(self.num_rows, _DIGESTED_FILES):
            try:
                with open(self._full(row), "rb") as file:
                    state.update(file.read(_DIGESTED_BYTES))
            except OSError:  # a bad row
                continue
        return f"xxh3:{state.hexdigest()}"

    def stamp(self) -> str:
        return f"xxh3:{xxhash.xxh3_128(np.array(self._stats(), np.int64).tobytes()).hexdigest()}"

    @property
    def notes(self) -> list[str]:
        return list(filter(None, [note_on_others(self._path, [self._full(row) for row in range(self.num_rows)])]))

    def _stats(self) -> list[tuple[int, int]]:
        """Return size and modification time (ns) of each file, or of 10,000 of them; -1 for a missing file."""
        stats = []
        for row in evenly(self.num_rows, _MOST_STATS):
            try:
                status = os.stat(self._full(row))
                stats.append((status.st_size, status.st_mtime_ns))
            except OSError:
                stats.append((-1, -1))
        return stats

    def _reader(self, name: str, size: Size | None) -> ImageReader | FileReader:
        if name == "file":
            sizes = [max(0, size) for size, _ in self._stats()]
            return FileReader(self._load, sum(sizes) // len(sizes))
        import PIL  # noqa: F401 - a missing library is reported here, not at the first row

        advice = (
            f"Bring all to one size with --data {self._path}::HEIGHTxWIDTH. Or leave it to the image processor "
            f"of a model folder: --data {self._path}::file"
        )
        return ImageReader(self.num_rows, self._load, self._name, size, advice)

    def _column(self, name: str, start: int, stop: int) -> Column:
        if name in self._readers:
            return self._readers[name].read(start, stop)
        texts = [os.fsencode(_text(name, file)) for file in self._files[start:stop]]
        return text_rows(texts, start, lambda row: f"{self._name(row)}: its {name}")

    def _load(self, row: int) -> bytes:
        try:
            with open(self._full(row), "rb", buffering=0) as file:
                return file.read()
        except OSError as error:
            raise InputError(f"{self._name(row)}: {error.strerror}") from error

    def _full(self, row: int) -> str:
        return f"{self._path}/{self._files[row]}"

    def _name(self, row: int) -> str:
        return f"--data {self._path}: row {row} ({self._files[row]!r})"


def _text(name: str, file: str) -> str:
    """Return the path of an image relative to the folder, or its label."""
    return file if name == "path" else file.rpartition("/")[0].rpartition("/")[2]


def _find_images(root: str) -> list[str]:
    """Return the paths of all images under a folder, relative to it, sorted."""
    files: list[str] = []
    folders: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while folders:
        inside, above = folders.pop()
        try:
            status = os.stat(f"{root}/{inside}")
            identity = status.st_dev, status.st_ino
            if identity in above:  # a link to a folder that contains it
                continue
            with os.scandir(f"{root}/{inside}") as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        folders.append((f"{inside}{entry.name}/", above | {identity}))
                    # a dangling link is an image that cannot be read; a pipe is not an image
                    elif entry.name.lower().endswith(SUFFIXES) and (entry.is_file() or entry.is_symlink()):
                        files.append(f"{inside}{entry.name}")
        except OSError as error:
            raise InputError(f"--data {root}/{inside}: {error.strerror}") from error
    return sorted(files)
