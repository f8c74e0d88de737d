"""Positions of lines in a large file, found once, by all ranks together, each in its own part of the file.

In CSV a line break inside quotes does not end a row. Whether a part begins inside quotes is only known once all parts
before it have been read, so both cases are counted, and the right one is chosen when the parts are combined.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runner.sources.files import File

_BLOCK_BYTES = 16 << 20  # bytes read at once
SEGMENT_BYTES = 1 << 20  # bytes; the position of the first line end in each such segment is kept
_NEWLINE = 10
_RETURN = 13
_QUOTE = 34


@dataclass
class Scan:
    """The result of scanning one part of a file.

    Attributes:
        num_ends: number of line ends, if the part begins outside quotes and if inside.
        kept: for these two cases, the first line end in each segment: its number (from 1) and its position in bytes.
        num_quotes: number of quotes.
        open_line: whether bytes follow the last line end of the file; set only by the file's last part.
    """

    num_ends: list[int]
    kept: list[list[tuple[int, int]]]
    num_quotes: int = 0
    open_line: bool = False


class LineIndex:
    """The positions of lines, from the scans of all parts in order.

    Attributes:
        num_lines: number of lines in the file.
    """

    def __init__(self, scans: Sequence[Scan], start: int, size: int) -> None:
        self._lines = [0]
        self._positions = [start]
        self._size = size
        before = quotes = 0
        for scan in scans:
            inside = quotes % 2
            for count, position in scan.kept[inside]:
                self._lines.append(before + count)
                self._positions.append(position + 1)
            before += scan.num_ends[inside]
            quotes += scan.num_quotes
        self.num_lines = before + any(scan.open_line for scan in scans)

    def block_of(self, line: int) -> int:
        """Return the index of the block of complete lines that holds a line."""
        return bisect_right(self._lines, line) - 1

    def block(self, index: int) -> tuple[int, int, int]:
        """Return the number of a block's first line, and the begin and end of its bytes."""
        last = index + 1 == len(self._lines)
        return self._lines[index], self._positions[index], self._size if last else self._positions[index + 1]


def scan(
    file: File, part: int, parts: int, start: int, has_quotes: bool, skips_blank: bool, opening: bytes = b""
) -> Scan:
    """Scan one of several parts of a file.

    Args:
        file: the file.
        part, parts: index of the part, and number of parts.
        start: position of the first line in the file.
        has_quotes: whether line breaks between quotes end no line.
        skips_blank: whether empty lines are not counted.
        opening: the byte that begins a row, where rows are of several lines: what ends a row is a line end before it.
    """
    length = file.size - start
    first, last = start + length * part // parts, start + length * (part + 1) // parts
    scan, previous = Scan([0, 0], [[], []]), b"\n\n"  # the two bytes before
    if first > start:
        previous = bytes(read_block(file, max(start, first - 2), first)).rjust(2, b"\n")
    segment = [-1, -1]
    for position in range(first, last, _BLOCK_BYTES):
        block = read_block(file, position, min(position + _BLOCK_BYTES, last))
        ends = np.flatnonzero(block == _NEWLINE)
        inside = np.zeros(len(ends), bool)
        num_quotes = 0
        if has_quotes:
            quotes = np.flatnonzero(block == _QUOTE)
            num_quotes = len(quotes)
            inside = (np.searchsorted(quotes, ends) + scan.num_quotes) % 2 == 1
        if skips_blank:
            with_previous = np.concatenate([np.frombuffer(previous, np.uint8), block])
            one, two = with_previous[ends + 1], with_previous[ends]
            filled = ~((one == _NEWLINE) | ((one == _RETURN) & (two == _NEWLINE)))
            ends = ends[filled]
            inside = inside[filled]
        if opening:
            opens = next_bytes(file, block, position, ends) == ord(opening)
            ends, inside = ends[opens], inside[opens]
        for case in (0, 1):
            own = ends[inside == bool(case)]
            _keep(scan, case, own, position, segment)
        scan.num_quotes += num_quotes
        previous = (previous + block[-2:].tobytes())[-2:]
    scan.open_line = last == file.size and length > 0 and (opening != b"" or not previous.endswith(b"\n"))
    return scan


def next_bytes(file: File, block: np.ndarray, position: int, ends: np.ndarray) -> np.ndarray:
    """Return the bytes after some bytes of a block; after the last byte of the file, a line end.

    Args:
        file: the file.
        block: bytes of it.
        position: their position.
        ends: indices in the block, ascending.
    """
    following: np.ndarray = block[np.minimum(ends + 1, len(block) - 1)]
    if len(ends) and ends[-1] + 1 == len(block):
        stop = position + len(block)
        following[-1] = read_block(file, stop, stop + 1)[0] if stop < file.size else _NEWLINE
    return following


def _keep(scan: Scan, case: int, ends: np.ndarray, position: int, segment: list[int]) -> None:
    """Record the first line end of each segment."""
    segments = (ends + position) // SEGMENT_BYTES
    _, firsts = np.unique(segments, return_index=True)
    for index in firsts.tolist():
        if segments[index] != segment[case]:
            segment[case] = int(segments[index])
            scan.kept[case].append((scan.num_ends[case] + index + 1, position + int(ends[index])))
    scan.num_ends[case] += len(ends)


def read_block(file: File, start: int, stop: int) -> np.ndarray:
    """Return the bytes `start..stop` of a file, uint8."""
    buffer = np.empty(stop - start, np.uint8)
    file.read_into(memoryview(buffer), start)
    return buffer
