"""Rows of a FASTA file: sequences as text."""

from collections.abc import Callable, Sequence

from runner.core.errors import InputError
from runner.data.rows import RAGGED, TEXT, Column, Rows, RowType, RowTypes, ragged_bytes
from runner.sources.base import DataSpec
from runner.sources.files import read_range
from runner.sources.tables.lines import LineSource

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
        records = block[1:].split(b"\n>") if block else []
        assert len(records) == count
        if b"\r" in block or b"\n;" in block or b"\0" in block:
            self._check(records, first)
        columns: dict[str, Column] = {name: ragged_bytes(_PARTS[name](records)) for name in self._names}
        return columns if len(columns) > 1 else columns[self._names[0]]

    def _check(self, records: Sequence[bytes], first: int) -> None:
        """Raise InputError where a record holds a comment, or lines that end otherwise."""
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


def _titles(records: Sequence[bytes]) -> list[bytes]:
    return [record.partition(b"\n")[0].rstrip() for record in records]


def _sequences(records: Sequence[bytes]) -> list[bytes]:
    """Return the lines of each record without line ends and blanks; these are removed from all records at once."""
    lines = [record[record.find(b"\n") + 1 or len(record) :] for record in records]
    return b"\0".join(lines).translate(None, _SPACE).split(b"\0") if lines else []


_PARTS: dict[str, Callable[[Sequence[bytes]], list[bytes]]] = {
    "id": lambda records: list(map(id_of, _titles(records))),
    "description": _titles,
    "sequence": _sequences,
}
