"""Rows that are lines of a file, and plain text files, where each line is a row of text."""

import re
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import xxhash

from runner.core.checksum import checksum_of_text
from runner.core.errors import InputError
from runner.core.text import row_range
from runner.data.rows import RAGGED, TEXT, Ragged, Rows, RowType, RowTypes, concatenate, slice_rows
from runner.sources.base import DataSpec
from runner.sources.decompressed import open_text
from runner.sources.files import read_range
from runner.sources.tables.line_index import LineIndex, Scan, scan

_BOM = b"\xef\xbb\xbf"
_ROW_OF_BLOCK = re.compile(r"Row #\d+: | in row \d+")
_SAMPLES = 256
_SAMPLE_BYTES = 64 << 10


class LineSource:
    """A file of lines, read and parsed in blocks of about 1 MiB; the latest block is kept. It may be compressed.

    Args:
        path: path or URL of the file.

    Raises:
        InputError: it cannot be read.
    """

    has_quotes = False  # whether line breaks between quotes end no row
    skips_blank = False  # whether empty lines are no rows
    opening = b""  # the byte that begins a row, where rows are of several lines
    row_type: RowTypes

    def __init__(self, path: str) -> None:
        self._file, self._stored = open_text(path)
        self._start = 0  # position of the first row
        if self._file.size >= len(_BOM) and read_range(self._file, 0, len(_BOM)) == _BOM:
            self._start = len(_BOM)
        self._index: LineIndex | None = None
        self._lock = threading.Lock()  # the reader's thread and the search for bad rows share the block
        self._block: tuple[int, Rows | list[bytes]] | None = None

    @property
    def num_rows(self) -> int:
        return self._lines().num_lines

    @property
    def row_bytes(self) -> int:
        return self._file.size // max(1, self.num_rows)

    def scan(self, part: int, parts: int) -> Scan:
        """Return the scan of one of several parts of the file, for `use` to combine."""
        return scan(self._file, part, parts, self._start, self.has_quotes, self.skips_blank, self.opening)

    def use(self, scans: Sequence[Any]) -> None:
        """Take the scans of all parts, instead of scanning the complete file."""
        self._index = LineIndex(scans, self._start, self._file.size)

    def parse(self, block: bytes, first: int, count: int) -> Rows:
        """Parse complete lines to rows.

        Args:
            block: the lines.
            first: number of the first row, for messages.
            count: number of rows in the block.

        Raises:
            InputError: a row cannot be parsed.
        """
        raise NotImplementedError

    def refusal(self, first: int, count: int, error: Exception) -> InputError:
        """Return the error for rows that a library cannot parse, without its own row numbers, which start anew."""
        why = _ROW_OF_BLOCK.sub("", str(error)).strip()
        return InputError(f"--data {self._file.path}: {row_range(first, first + count)}: {why}")

    def read(self, start: int, stop: int) -> Rows:
        index = self._lines()
        parts = []
        with self._lock:
            while True:
                block = index.block_of(start)
                first, begin, end = index.block(block)
                after = index.block(block + 1)[0] if end < self._file.size else index.num_lines
                last = min(stop, after)
                parts.append(self._read_from(block, first, begin, end, after - first, start - first, last - first))
                if last >= stop:
                    return parts[0] if len(parts) == 1 else concatenate(parts)
                start = last

    def digest(self) -> str:
        file = self._stored  # the same data compressed otherwise are other data
        state = xxhash.xxh3_128(str(file.size).encode())
        count = 1 if file.size <= _SAMPLES * _SAMPLE_BYTES else _SAMPLES
        length = file.size if count == 1 else _SAMPLE_BYTES
        for sample in range(count):
            position = (file.size - length) * sample // max(1, count - 1)
            state.update(read_range(file, position, position + length))
        return checksum_of_text(f"{state.hexdigest()} {self.row_type}")

    def stamp(self) -> str:
        return self._stored.stamp()

    def _lines(self) -> LineIndex:
        if self._index is None:
            self.use([self.scan(0, 1)])
        assert self._index is not None
        return self._index

    def _read_from(self, block: int, first: int, begin: int, end: int, count: int, start: int, stop: int) -> Rows:
        """Return rows of a block; where the block cannot be parsed as a whole, parse these rows alone."""
        if self._block is None or self._block[0] != block:
            content = read_range(self._file, begin, end)
            try:
                self._block = block, self.parse(content, first, count)
            except InputError:
                self._block = block, self._split(content)
        parsed = self._block[1]
        if not isinstance(parsed, list):
            return slice_rows(parsed, start, stop)
        for row in range(start, stop):
            row_alone = self.parse(parsed[row], first + row, 1)
            if stop - start == 1:
                return row_alone
        return self.parse(b"".join(parsed[start:stop]), first + start, stop - start)

    def _split(self, content: bytes) -> list[bytes]:
        """Return the lines of a block that are rows, each with its end."""
        lines = []
        inside = False
        unfinished = b""
        for line in content.removesuffix(b"\n").split(b"\n"):
            whole = unfinished + line + b"\n"
            inside ^= self.has_quotes and line.count(b'"') % 2 == 1
            if inside:
                unfinished = whole
                continue
            unfinished = b""
            if not self.skips_blank or whole.strip(b"\r\n"):
                lines.append(whole)
        return lines


class TextSource(LineSource):
    """A `.txt` file, which may be compressed: each line, without its end, is a row of text."""

    row_type = RowType(RAGGED, TEXT)

    def __init__(self, spec: DataSpec) -> None:
        spec.refuse_names()
        super().__init__(spec.path)

    def parse(self, block: bytes, first: int, count: int) -> Rows:
        return split_lines(block, count)


def split_lines(block: bytes, count: int) -> Ragged:
    """Return the `count` lines of a block, without their ends, as rows of text."""
    buffer = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(buffer == ord("\n"))
    if len(ends) < count:
        ends = np.append(ends, len(buffer))
    starts = np.concatenate([[0], ends[:-1] + 1])
    is_return = (ends > starts) & (buffer[np.maximum(ends, 1) - 1] == ord("\r"))
    kept = np.ones(len(buffer), bool)
    kept[ends[ends < len(buffer)]] = False
    kept[ends[is_return] - 1] = False
    offsets = np.concatenate([[0], np.cumsum(ends - starts - is_return)])
    return Ragged(buffer[kept].view(TEXT), offsets)
