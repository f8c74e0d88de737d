"""Rows of a FASTA file: sequences as text."""

import re
from collections.abc import Callable

import numpy as np

from runner.core.errors import InputError
from runner.data.rows import RAGGED, TEXT, Column, Ragged, Rows, RowType, RowTypes
from runner.sources.base import DataSpec
from runner.sources.files import read_range
from runner.sources.tables.lines import LineSource
from runner.sources.tables.text_rows import ragged_bytes

_TITLE = re.compile(rb"\n>([^\n]*)")
_SPACE = b" \t\r\n\v\f"
_LOOKED_BYTES = 64 << 10
_SHOWN = 40


class FastaSource(LineSource):
    """A FASTA file, in which a record is a title, after `>`, and the lines of a sequence.

    Columns are text: `sequence`, its lines joined, with letters as they are; `id`, the title up to its first space;
    `description`, the complete title. The default is `sequence` alone.

    Raises:
        InputError: no such file or column; the file does not begin with a title.
    """

    opening = b">"

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec.path)
        self._names = spec.choose(list(_PARTS), ["sequence"])
        types = dict.fromkeys(self._names, RowType(RAGGED, TEXT))
        self.row_type: RowTypes = types if len(types) > 1 else types[self._names[0]]
        head = read_range(self._file, self._start, min(self._file.size, self._start + _LOOKED_BYTES))
        self._start += len(head) - len(head.lstrip(_SPACE))
        if (head := head.lstrip(_SPACE)) and not head.startswith(self.opening):
            first = head.partition(b"\n")[0][:_SHOWN].decode(errors="replace")
            raise InputError(f"{spec.what} is not FASTA: it begins with {first!r}, and not with a title after '>'")

    def parse(self, block: bytes, first: int, count: int) -> Rows:
        text = b"\n" + block
        if b"\r" in text or b"\n;" in text or b"\0" in text:
            self._check(text, first)
        columns: dict[str, Column] = {name: _PARTS[name](text) for name in self._names}
        assert all(len(column) == count for column in columns.values())
        return columns if len(columns) > 1 else columns[self._names[0]]

    def _check(self, text: bytes, first: int) -> None:
        """Raise InputError where a record holds a comment, or lines that end otherwise."""
        records = text.split(b"\n>")[1:]
        for row, (title, _, lines) in enumerate((record.partition(b"\n") for record in records), first):
            if b"\r" in title.rstrip():
                raise InputError(f"--data {self._file.path}: row {row} has line ends of one \\r. Write it with \\n")
            if b"\0" in title or b"\0" in lines:
                raise InputError(f"--data {self._file.path}: row {row} holds a byte 0, which is no letter")
            if lines.startswith(b";") or b"\n;" in lines:
                raise InputError(f"--data {self._file.path}: row {row} has a comment, a line that begins with ';'")

    def _split(self, content: bytes) -> list[bytes]:
        return [b">" + record + b"\n" for record in content[1:].split(b"\n>")]


def id_of(title: bytes) -> bytes:
    """Return the first word of a title; empty where it has none."""
    words = title.split(None, 1)
    return words[0] if words else b""


def _titles(text: bytes) -> list[bytes]:
    return [title.rstrip() for title in _TITLE.findall(text)]


def _sequences(text: bytes) -> Ragged:
    """Return the lines of each record without line ends and blanks; these are removed from all records at once."""
    marked = _TITLE.sub(b"\0", text).translate(None, _SPACE)
    begins = np.flatnonzero(np.frombuffer(marked, np.uint8) == 0)
    offsets = np.append(begins, len(marked)) - np.arange(len(begins) + 1)
    return Ragged(np.frombuffer(marked.replace(b"\0", b""), TEXT), offsets)


_PARTS: dict[str, Callable[[bytes], Ragged]] = {
    "id": lambda text: ragged_bytes(list(map(id_of, _titles(text)))),
    "description": lambda text: ragged_bytes(_titles(text)),
    "sequence": _sequences,
}
