"""Rows of a FASTQ file: sequences with the quality of each letter, as text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runner.core.errors import InputError
from runner.core.text import plural
from runner.data.rows import RAGGED, TEXT, Column, Ragged, Rows, RowType, RowTypes, take_column
from runner.sources.base import DataSpec
from runner.sources.files import File, read_range
from runner.sources.sequences.fasta import id_of
from runner.sources.tables.line_index import Scan, next_bytes, read_block
from runner.sources.tables.lines import LineSource, split_lines
from runner.sources.tables.text_rows import ragged_bytes

_LINES = 4  # of a record
_TITLE, _SEQUENCE, _PLUS, _QUALITY = range(_LINES)
_NAMES = ("id", "description", "sequence", "quality")
_BLOCK_BYTES = 16 << 20
_ADVICE = "A record is four lines: @ and a title, the sequence, +, and as many letters of quality"


@dataclass
class _Marks:
    """Lines of a part of the file that begin with neither mark of a record, by their number in the part, modulo 4."""

    no_title: list[int]
    no_plus: list[int]


class FastqSource(LineSource):
    """A FASTQ file whose records are four lines each.

    Columns are text: `sequence`; `quality`, as long; `id`, the title up to its first space; `description`, the complete
    title. The default is `sequence` alone.

    Raises:
        InputError: no such file or column; once all parts are scanned, records of more or fewer lines.
    """

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec.path)
        self._names = spec.choose(_NAMES, ["sequence"])
        types = dict.fromkeys(self._names, RowType(RAGGED, TEXT))
        self.row_type: RowTypes = types if len(types) > 1 else types[self._names[0]]

    @property
    def num_rows(self) -> int:
        return self._lines().num_lines // _LINES

    def scan(self, part: int, parts: int) -> Any:
        """Return the scan of one of several parts of the file, for `use` to combine."""
        return super().scan(part, parts), _marks(self._file, self._start, part, parts)

    def use(self, scans: Sequence[Any]) -> None:
        """Take the scans of all parts.

        Raises:
            InputError: the file is truncated, or its records are not of four lines.
        """
        lines: list[Scan] = [scan for scan, _ in scans]
        super().use(lines)
        number = 0
        odd = int(read_range(self._file, self._start, min(self._file.size, self._start + 1)) not in (b"", b"@"))
        for scan, marks in scans:
            odd += marks.no_title[(_TITLE - number) % _LINES] + marks.no_plus[(_PLUS - number) % _LINES]
            number += scan.num_ends[0]
        further = self._lines().num_lines % _LINES
        if further and self._tail().strip(b"\r\n"):
            raise self._error(self.num_rows, f"is cut off after {plural(further, 'line')}")
        if odd > (further > _TITLE) + (further > _PLUS):
            raise self._error(self._first_odd(), "does not begin with @, or its third line with +")

    def parse(self, block: bytes, first: int, count: int) -> Rows:
        return split_lines(block, count)

    def read(self, start: int, stop: int) -> Rows:
        lines = super().read(start * _LINES, stop * _LINES)
        assert isinstance(lines, Ragged)
        self._check(lines, start)
        columns = {name: _column(name, lines) for name in self._names}
        return columns if len(columns) > 1 else columns[self._names[0]]

    def _check(self, lines: Ragged, start: int) -> None:
        """Raise InputError, about the first such row, where a record is none."""
        lengths = lines.lengths.reshape(-1, _LINES)
        values = lines.values.view(np.uint8)
        begins = lines.offsets[:-1].reshape(-1, _LINES)
        unlike = np.flatnonzero(lengths[:, _SEQUENCE] != lengths[:, _QUALITY])
        if len(unlike):
            counts = f"{lengths[unlike[0], _SEQUENCE]} letters and {lengths[unlike[0], _QUALITY]} of quality"
            raise self._error(start + int(unlike[0]), f"has {counts}")
        for row in np.flatnonzero(lengths[:, _PLUS] > 1).tolist():
            title, plus = (begins[row, line] for line in (_TITLE, _PLUS))
            long = lengths[row, _PLUS]
            if (
                lengths[row, _TITLE] != long
                or (values[title + 1 : title + long] != values[plus + 1 : plus + long]).any()
            ):
                raise self._error(start + row, "has another title after + than after @")

    def _tail(self) -> bytes:
        """Return the lines after the last complete record, at most some KiB of them."""
        further = self._lines().num_lines % _LINES
        tail = read_range(self._file, max(self._start, self._file.size - 4096), self._file.size)
        return b"".join(tail.splitlines(keepends=True)[-further:])

    def _first_odd(self) -> int:
        for row in range(self.num_rows):
            lines = super().read(row * _LINES, (row + 1) * _LINES)
            assert isinstance(lines, Ragged)
            texts = [lines.values[a:b].tobytes() for a, b in zip(lines.offsets, lines.offsets[1:], strict=False)]
            if not texts[_TITLE].startswith(b"@") or not texts[_PLUS].startswith(b"+"):
                return row
        return self.num_rows

    def _error(self, row: int, what: str) -> InputError:
        return InputError(f"--data {self._file.path}: row {row} {what}. {_ADVICE}")


def _column(name: str, lines: Ragged) -> Column:
    if name in ("sequence", "quality"):
        return take_column(lines, range(_SEQUENCE if name == "sequence" else _QUALITY, len(lines), _LINES))
    offsets, values = lines.offsets, lines.values
    titles = [values[offsets[line] + 1 : offsets[line + 1]].tobytes() for line in range(0, len(lines), _LINES)]
    return ragged_bytes([id_of(title) if name == "id" else title for title in titles])


def _marks(file: File, start: int, part: int, parts: int) -> _Marks:
    """Count the lines that do not begin with @, or with +, in one of several parts of a file."""
    length = file.size - start
    first, last = start + length * part // parts, start + length * (part + 1) // parts
    marks, number = _Marks([0] * _LINES, [0] * _LINES), 0
    for position in range(first, last, _BLOCK_BYTES):
        block = read_block(file, position, min(position + _BLOCK_BYTES, last))
        ends = np.flatnonzero(block == ord("\n"))
        if len(ends) and position + int(ends[-1]) + 1 == file.size:
            ends = ends[:-1]  # no line begins there
        begins = next_bytes(file, block, position, ends)
        numbers = (np.arange(1, len(ends) + 1) + number) % _LINES
        for counts, mark in ((marks.no_title, "@"), (marks.no_plus, "+")):
            for residue, count in enumerate(np.bincount(numbers[begins != ord(mark)], minlength=_LINES).tolist()):
                counts[residue] += count
        number += len(ends)
    return marks
