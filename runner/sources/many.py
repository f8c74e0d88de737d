"""Rows of many files as one data set."""

import os
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from runner.core.checksum import checksum_of_text
from runner.core.errors import InputError
from runner.core.text import plural
from runner.data.rows import Rows, RowTypes, concatenate, take, type_key, zero_row
from runner.sources import open_source
from runner.sources.base import DataSpec, Noted, Scanned, Source, check_row_types, evenly
from runner.sources.common_types import types_to_give
from runner.sources.decompressed import hold
from runner.sources.files import file_stamp
from runner.sources.left_out import note_on_others
from runner.sources.registry import find_source_format, is_compressed_text

_DIGESTED_FILES = 16  # of a larger number, at most so many, evenly chosen, are digested
_MOST_NOTES = 3


@dataclass
class _KnownFile:
    """Properties of a file that has been opened once; equal on all ranks.

    Attributes:
        num_rows, row_bytes: see `Source`.
        row_type: row type of its source.
        scan: scan of its lines, where it has any; so they are counted once and not at each opening.
        notes: see `Noted`.
    """

    num_rows: int
    row_type: RowTypes
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
        note: the note on files of a folder that are left out; None to look for them when notes are asked for.

    Raises:
        InputError: a file cannot be opened, or its row type differs from the first file's.
    """

    def __init__(self, paths: Sequence[str], spec: DataSpec, note: str | None = None) -> None:
        self._paths, self._spec = list(paths), spec
        self._note = note
        self._suffix = f"::{spec.inner}" if spec.inner else ""
        self._held = hold(list(filter(is_compressed_text, paths)))  # or each opening would decompress a file anew
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
        if self._note is None:
            self._note = note_on_others(self._spec.path, self._paths) if os.path.isdir(self._spec.path) else ""
        notes = [*filter(None, [self._note]), *notes]
        more = [f"{plural(len(notes) - _MOST_NOTES, 'more file')} like these"] if len(notes) > _MOST_NOTES else []
        return notes[:_MOST_NOTES] + more

    def scan(self, part: int, parts: int) -> list[tuple[int, _KnownFile]]:
        """Return the index and the properties of every `parts`-th file, from file `part` on, for `use` to combine."""
        return [(index, self._look_at(index)) for index in range(part, len(self._paths), parts)]

    def use(self, scans: Sequence[Any]) -> None:
        """Take the scans of all parts, instead of opening all files.

        Raises:
            InputError: the row type of a file differs from the first file's, and no type fits both.
        """
        known = [file for _, file in sorted((pair for scan in scans for pair in scan), key=lambda pair: pair[0])]
        filled = [index for index, file in enumerate(known) if file.num_rows] or [0]
        first = known[filled[0]].row_type
        unlike = [index for index in filled if known[index].row_type != first]
        given = self._types_for_all([known[index].row_type for index in filled]) if unlike else {}
        if given is None:

            def is_too_far(last: int) -> bool:
                return self._types_for_all([known[index].row_type for index in filled if index <= last]) is None

            last = unlike[bisect_left(unlike, True, key=is_too_far)]
            like = 0 if known[0].row_type == first else filled[0]
            raise InputError(
                f"--data {self._paths[last]}{self._suffix}: its rows are {type_key(known[last].row_type)}; those "
                f"of {self._paths[like]} are {type_key(first)}. All files of a data set must be of one type"
            )
        options = self._spec.options
        self._spec = replace(self._spec, options=replace(options, types={**given, **options.types}))
        self.row_type = self._open(filled[0]).row_type if unlike else first
        for file in known:
            file.row_type = self.row_type
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
        return checksum_of_text(" ".join([*(f"{file.num_rows} {type_key(file.row_type)}" for file in files), *digests]))

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

    def _types_for_all(self, types: Sequence[RowTypes]) -> dict[str, str] | None:
        """Return types to read the columns of files with, so that they are the same; None where there are none."""
        if not find_source_format(self._paths[0]).is_typed:
            return None
        return types_to_give(types, self._spec.names(lambda: ()), self._spec.keep)

    def _look_at(self, index: int) -> _KnownFile:
        source, scan = self._open(index), None
        if isinstance(source, Scanned):
            scan = source.scan(0, 1)
            source.use([scan])
        check_row_types(source, f"--data {self._paths[index]}{self._suffix}")
        notes = source.notes if isinstance(source, Noted) else ()
        return _KnownFile(source.num_rows, source.row_type, source.row_bytes, scan, notes)

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
        is_same_type = source.row_type == known.row_type or not known.num_rows
        if source.num_rows != known.num_rows or not is_same_type:
            raise InputError(
                f"--data {self._paths[index]} is not the same as before, or not on all hosts: it had {known.num_rows} "
                f"rows of {type_key(known.row_type)}, and has {source.num_rows} of {type_key(source.row_type)}"
            )
        return source

    def _open(self, index: int) -> Source:
        return self._open_with(index, self._spec)

    def _open_with(self, index: int, spec: DataSpec) -> Source:
        source = open_source(self._paths[index] + self._suffix, spec.columns, spec.keep, spec.most_rows, spec.options)
        holds_requests = getattr(source, "holds_requests", False)
        if index == 0:
            self._holds_requests = holds_requests
        elif holds_requests != self._holds_requests:
            which = [self._paths[0], self._paths[index]][:: -1 if holds_requests else 1]
            raise InputError(
                f"--data {self._spec.path}: {which[0]} holds requests of OpenAI's batch format, and {which[1]} does not"
            )
        return source
