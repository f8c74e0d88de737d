"""Files of one kind in a folder and its subfolders, a row each: images or sound."""

import os
from collections.abc import Sequence

import numpy as np
import xxhash

from runner.core.errors import InputError
from runner.core.text import plural
from runner.data.rows import Ragged
from runner.sources.base import DataSpec, Source, evenly
from runner.sources.left_out import describe_files, note_on_others, refuse_tables
from runner.sources.media.decode import SUFFIXES as IMAGES
from runner.sources.tables.text_rows import text_rows

SOUNDS = (".wav", ".flac", ".ogg")
_DIGESTED_FILES = 64
_DIGESTED_BYTES = 4 << 20  # of each file
_MOST_STATS = 10_000  # each is a request to the server of a shared file system


def open_folder(spec: DataSpec) -> Source:
    """Open the source for a folder of images or of sound; files of other kinds in it are ignored.

    Raises:
        InputError: it holds neither, or both.
    """
    files = find_files(spec.path, IMAGES + SOUNDS)
    images, sounds = (_those(files, suffixes) for suffixes in (IMAGES, SOUNDS))
    if images and sounds:
        raise InputError(
            f"{spec.what} holds {plural(len(images), 'image')} and {plural(len(sounds), 'file')} of sound, such as "
            f"{images[0]} and {sounds[0]}; rows are of one kind. Move one kind to a folder of its own"
        )
    if sounds:
        from runner.sources.media.audio import AudioSource

        return AudioSource(spec, FolderFiles(spec, sounds))
    if not images:
        refuse_tables(spec.what, [spec.path])
        raise InputError(
            f"{spec.what} is a folder with no images in it or under it ({', '.join(IMAGES)}), nor sound "
            f"({', '.join(SOUNDS)}){describe_files(spec.path)}"
        )
    from runner.sources.media.images import ImageSource

    return ImageSource(spec, FolderFiles(spec, images))


class FolderFiles:
    """Files in a folder and its subfolders, in order of their paths.

    Args:
        spec: its path is that of the folder.
        paths: the files, relative to it.

    Attributes:
        num_rows: number of files.
    """

    def __init__(self, spec: DataSpec, paths: Sequence[str]) -> None:
        self._path = spec.path
        self._paths = paths
        self.num_rows = len(paths)

    def load(self, row: int) -> bytes:
        """Return the content of a file; raise InputError where it cannot be read."""
        try:
            with open(self._full(row), "rb", buffering=0) as file:
                return file.read()
        except OSError as error:
            raise InputError(f"{self.name(row)}: {error.strerror}") from error

    def name(self, row: int) -> str:
        """Return the name of a row for messages."""
        return f"--data {self._path}: row {row} ({self._paths[row]!r})"

    def texts(self, column: str, start: int, stop: int) -> Ragged:
        """Return `path`, relative to the folder, or `label`, the name of the folder that directly holds a file."""
        texts = [os.fsencode(_text(column, path)) for path in self._paths[start:stop]]
        return text_rows(texts, start, lambda row: f"{self.name(row)}: its {column}")

    def text_bytes(self, column: str) -> int:
        """Return the average size of `path` or `label`, in bytes."""
        return sum(len(_text(column, path)) for path in self._paths) // self.num_rows

    def sizes(self) -> list[int]:
        """Return the size of each file, or of 10,000 of them, in bytes; 0 for a missing one."""
        return [max(0, size) for size, _ in self._stats()]

    def digest(self, reading: str) -> str:
        """Return a checksum of names, sizes and samples of the files, and of how they are read."""
        state = xxhash.xxh3_128(reading.encode())
        state.update(os.fsencode("\0".join(self._paths)))
        state.update(np.array(self._stats(), np.int64)[:, 0].tobytes())
        for row in evenly(self.num_rows, _DIGESTED_FILES):
            try:
                with open(self._full(row), "rb") as file:
                    state.update(file.read(_DIGESTED_BYTES))
            except OSError:  # a bad row
                continue
        return f"xxh3:{state.hexdigest()}"

    def stamp(self) -> str:
        """Return a value that changes whenever a file is written to."""
        return f"xxh3:{xxhash.xxh3_128(np.array(self._stats(), np.int64).tobytes()).hexdigest()}"

    @property
    def notes(self) -> list[str]:
        """The note on files of other kinds."""
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

    def _full(self, row: int) -> str:
        return f"{self._path}/{self._paths[row]}"


def find_files(root: str, suffixes: tuple[str, ...]) -> list[str]:
    """Return the paths of all files with these suffixes under a folder, relative to it, sorted; no hidden ones."""
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
                    # a dangling link is a file that cannot be read; a pipe is none
                    elif entry.name.lower().endswith(suffixes) and (entry.is_file() or entry.is_symlink()):
                        files.append(f"{inside}{entry.name}")
        except OSError as error:
            raise InputError(f"--data {root}/{inside}: {error.strerror}") from error
    return sorted(files)


def _those(files: Sequence[str], suffixes: tuple[str, ...]) -> list[str]:
    return [file for file in files if file.lower().endswith(suffixes)]


def _text(column: str, path: str) -> str:
    return path if column == "path" else path.rpartition("/")[0].rpartition("/")[2]
