"""Rows of many files as one data set: the files of a pattern, a list, or a folder of Parquet files."""

import glob
import os
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runner.core.checksum import checksum_of_text
from runner.core.errors import InputError, describe
from runner.core.text import plural
from runner.core.urls import is_url, storage_of, without_query
from runner.data.rows import Rows, RowTypes, concatenate, take, type_key, zero_row
from runner.sources import open_source
from runner.sources.base import DataSpec, Noted, Scanned, Source, check_row_types, evenly
from runner.sources.files import file_stamp
from runner.sources.left_out import note_on_others, refuse_tables
from runner.sources.registry import FOLDER_SUFFIXES, JOINED_SUFFIXES

_DIGESTED_FILES = 16  # of a larger number, at most so many, evenly chosen, are digested
_MOST_NOTES = 3
_MAGIC = re.compile(r"[*?[]")


@dataclass
class _KnownFile:
    """Properties of a file that has been opened once; equal on all ranks.

    Attributes:
        num_rows, row_bytes: see `Source`.
        row_type: row type of its source, in words.
        scan: scan of its lines, where it has any; so they are counted once and not at each opening.
        notes: see `Noted`.
    """

    num_rows: int
    row_type: str
    row_bytes: int
    scan: Any = None
    notes: Sequence[str] = ()


class ManySource:
    """Files whose rows follow each other, in the given order.

    Each file is opened once for its number of rows: all ranks can share this work by `scan` and `use`. After that only
    one is open at a time.

    Args:
        paths: the files, at least one.
        spec: the columns to read of each file.

    Raises:
        InputError: a file cannot be opened, or its row type differs from the first file's.
    """

    def __init__(self, paths: Sequence[str], spec: DataSpec) -> None:
        self._paths, self._spec = list(paths), spec
        self._suffix = f"::{spec.inner}" if spec.inner else ""
        self._known: list[_KnownFile] | None = None
        self._starts = np.empty(0, np.int64)
        self.row_type: RowTypes = self._open(0).row_type
        self._latest: tuple[int, Source] | None = None

    @property
    def num_rows(self) -> int:
        self._files()
        return int(self._starts[-1])

    @property
    def row_bytes(self) -> int:
        total = sum(file.num_rows * file.row_bytes for file in self._files())
        return total // max(1, self.num_rows)

    @property
    def notes(self) -> Sequence[str]:
        notes = [note for file in self._files() for note in file.notes]
        if os.path.isdir(self._spec.path):
            notes = [*filter(None, [note_on_others(self._spec.path, self._paths)]), *notes]
        more = [f"{plural(len(notes) - _MOST_NOTES, 'more file')} like these"] if len(notes) > _MOST_NOTES else []
        return notes[:_MOST_NOTES] + more

    def scan(self, part: int, parts: int) -> list[tuple[int, _KnownFile]]:
        """Return the index and the properties of every `parts`-th file, from file `part` on, for `use` to combine."""
        return [(index, self._look_at(index)) for index in range(part, len(self._paths), parts)]

    def use(self, scans: Sequence[Any]) -> None:
        """Take the scans of all parts, instead of opening all files.

        Raises:
            InputError: the row type of a file differs from the first file's.
        """
        known = [file for _, file in sorted((pair for scan in scans for pair in scan), key=lambda pair: pair[0])]
        wanted = type_key(self.row_type)
        for path, file in zip(self._paths, known, strict=True):
            if file.row_type != wanted:
                raise InputError(
                    f"--data {path}{self._suffix}: its rows are {file.row_type}; those of {self._paths[0]} are "
                    f"{wanted}. All files of a data set must be of one type"
                )
        self._starts = np.cumsum([0, *(file.num_rows for file in known)], dtype=np.int64)
        self._known = known

    def read(self, start: int, stop: int) -> Rows:
        self._files()
        parts = []
        while start < stop:
            index = bisect_right(self._starts, start) - 1  # the last file that begins there: those before it are empty
            first = int(self._starts[index])
            end = min(stop, int(self._starts[index + 1]))
            parts.append(self._at(index).read(start - first, end - first))
            start = end
        if not parts:
            return take(zero_row(self.row_type), [])
        return parts[0] if len(parts) == 1 else concatenate(parts)

    def digest(self) -> str:
        files = self._files()
        # opened anew, and not by the ranks that have scanned them: this rank's files may be others
        digests = [self._opened(index).digest() for index in evenly(len(files), _DIGESTED_FILES)]
        return checksum_of_text(" ".join([*(f"{file.num_rows} {file.row_type}" for file in files), *digests]))

    def stamp(self) -> str:
        stamps = (
            file_stamp(path) if os.path.isfile(path) else self._open(index).stamp()
            for index, path in enumerate(self._paths)
        )
        return checksum_of_text(" ".join(stamps))

    def _files(self) -> list[_KnownFile]:
        if self._known is None:
            self.use([self.scan(0, 1)])
        assert self._known is not None
        return self._known

    def _look_at(self, index: int) -> _KnownFile:
        source, scan = self._open(index), None
        if isinstance(source, Scanned):
            scan = source.scan(0, 1)
            source.use([scan])
        check_row_types(source, f"--data {self._paths[index]}{self._suffix}")
        notes = source.notes if isinstance(source, Noted) else ()
        return _KnownFile(source.num_rows, type_key(source.row_type), source.row_bytes, scan, notes)

    def _at(self, index: int) -> Source:
        """Return the source of a file for reading; the latest stays open."""
        latest = self._latest  # read once: two threads may be here
        if latest is None or latest[0] != index:
            self._latest = latest = None  # closes the previous one
            source = self._opened(index)
            self._latest = latest = index, source
        return latest[1]

    def _opened(self, index: int) -> Source:
        """Open a file that is known.

        Raises:
            InputError: it cannot be opened, or has other rows than before.
        """
        source, known = self._open(index), self._files()[index]
        if isinstance(source, Scanned):
            source.use([known.scan])
        if (source.num_rows, type_key(source.row_type)) != (known.num_rows, known.row_type):
            raise InputError(
                f"--data {self._paths[index]} is not the same as before, or not on all hosts: it had {known.num_rows} "
                f"rows of {known.row_type}, and has {source.num_rows} of {type_key(source.row_type)}"
            )
        return source

    def _open(self, index: int) -> Source:
        spec = self._spec
        return open_source(self._paths[index] + self._suffix, spec.columns, spec.keep, spec.most_rows)


def files_of(path: str) -> list[str]:
    """Return the sorted files that a pattern or a folder of Parquet files stands for; empty where a path is neither."""
    if _is_pattern(path):
        return expand(path)
    if os.path.isdir(path) and not path.rstrip("/").endswith(FOLDER_SUFFIXES):
        return _joined_files(path)
    return []


def expand(pattern: str) -> list[str]:
    """Return the sorted files that match a pattern: `*`, `?`, `[...]` inside a name, `**` for any folders.

    Args:
        pattern: a local path, or a URL.

    Raises:
        InputError: no file matches, they are those of a table with a log, or the storage fails.
        UsageError: fsspec, or the package it needs for this kind of URL, is missing.
    """
    if is_url(pattern):
        matches = _matches_of_url(pattern)
    else:
        matches = [
            path
            for path in glob.glob(pattern, recursive=True)
            if os.path.isfile(path) or path.rstrip("/").endswith(FOLDER_SUFFIXES)
        ]
    if not matches:
        raise InputError(f"--data {pattern}: no file matches")
    refuse_tables(f"--data {pattern}", {os.path.dirname(path) for path in matches})
    return sorted(set(matches))


def _matches_of_url(pattern: str) -> list[str]:
    storage, name = storage_of(pattern, "--data")
    try:
        storage.invalidate_cache()
        infos = storage.glob(name, detail=True)
    except Exception as error:
        raise InputError(f"--data {pattern}: {describe(error)}") from error
    return [storage.unstrip_protocol(match) for match, info in infos.items() if info.get("type") != "directory"]


def _is_pattern(path: str) -> bool:
    """Return whether a path is a pattern to expand; an existing local file with such a name is not."""
    return _MAGIC.search(without_query(path)) is not None and (is_url(path) or not os.path.exists(path))


def _joined_files(folder: str) -> list[str]:
    """Return the files of one data set in a folder and below, as Spark writes them; empty where it is no data set.

    A folder is a data set where it holds such a file, or folders named by the values of a column, such as `day=3`.
    """
    visible = [name for name in os.listdir(folder) if not name.startswith(("_", "."))]
    if not any(name.endswith(JOINED_SUFFIXES) or "=" in name for name in visible):
        return []
    paths: list[str] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(("_", "."))]
        paths += [
            os.path.join(parent, name)
            for name in names
            if name.endswith(JOINED_SUFFIXES) and not name.startswith(("_", "."))
        ]
    refuse_tables(f"--data {folder}", {folder, *map(os.path.dirname, paths)})
    return sorted(paths)
