"""Framing of chunks in a stream of bytes: a frame holds the record of a chunk, and its rows if they must travel."""

import json
import struct
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from runner.chunks.commit import Commit
from runner.core.checksum import as_bytes, checksum
from runner.core.errors import RunnerError
from runner.core.text import row_range
from runner.data.rows import dtype_from_json, dtype_to_json

_HEAD = struct.Struct(">4sI")  # magic, bytes of the description (JSON), which gives those of the rows
_MAGIC = b"FRM1"


def frame(commit: Commit, rows: np.ndarray | None) -> list[memoryview]:
    """Return the frame of a chunk, without a copy of its rows; rows are None where they need not travel."""
    layout = None if rows is None else [dtype_to_json(rows.dtype), rows.shape]
    description = json.dumps([asdict(commit), layout]).encode()
    head = memoryview(_HEAD.pack(_MAGIC, len(description)) + description)
    return [head] if rows is None else [head, as_bytes(rows)]


class Decoder:
    """Decoder of one rank's stream, which arrives in pieces, into chunks."""

    def __init__(self) -> None:
        self._head = bytearray()  # of the arriving frame: header and description
        self._commit: Commit | None = None
        self._layout: tuple[np.dtype, tuple[int, ...]] | None = None
        self._raw = np.empty(0, np.uint8)
        self._size = self._filled = 0

    def feed(self, data: np.ndarray) -> Iterator[tuple[Commit, np.ndarray | None]]:
        """Take the next piece (1-D uint8) of the stream; yield the chunks that it completes.

        The rows may be views of `data`.
        """
        while len(data):
            if self._commit is None:
                data = self._feed_head(data)
                if self._commit is None:
                    return
            count = min(len(data), self._size - self._filled)
            if count == self._size:
                self._raw = data[:count]  # arrived in one piece
            else:
                if not self._filled:
                    self._raw = np.empty(self._size, np.uint8)
                self._raw[self._filled : self._filled + count] = data[:count]
            self._filled += count
            data = data[count:]
            if self._filled == self._size:
                yield self._finish(self._commit)

    def _finish(self, commit: Commit) -> tuple[Commit, np.ndarray | None]:
        rows = None
        if self._layout is not None:
            dtype, shape = self._layout
            rows = self._raw.view(dtype).reshape(shape)
            if checksum(rows) != commit.checksum:
                raise RunnerError(
                    f"{row_range(commit.start, commit.stop)} of rank {commit.rank} were damaged on their way to rank 0 "
                    "(checksum)"
                )
        self._commit = None
        self._layout = None
        self._head = bytearray()
        self._filled = 0
        self._raw = np.empty(0, np.uint8)  # otherwise chunk and round would stay in memory until the next chunk
        return commit, rows

    def _feed_head(self, data: np.ndarray) -> np.ndarray:
        data = self._fill_head(data, _HEAD.size)
        if len(self._head) < _HEAD.size:
            return data
        magic, description_bytes = _HEAD.unpack_from(self._head)
        assert magic == _MAGIC, magic
        data = self._fill_head(data, _HEAD.size + description_bytes)
        if len(self._head) == _HEAD.size + description_bytes:
            commit, layout = json.loads(self._head[_HEAD.size :])
            self._commit = Commit(**commit)
            self._size = 0
            if layout is not None:
                dtype = dtype_from_json(layout[0])
                shape = tuple(layout[1])
                self._layout = dtype, shape
                self._size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        return data

    def _fill_head(self, data: np.ndarray, size: int) -> np.ndarray:
        count = max(0, size - len(self._head))
        self._head += data[:count].tobytes()
        return data[count:]
