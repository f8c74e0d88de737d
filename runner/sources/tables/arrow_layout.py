"""Where rows and values lie in an Arrow file: its metadata (FlatBuffers), which pyarrow reads but does not show.

https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

_TAIL = struct.Struct("<i6s")  # bytes of the footer, and the magic bytes
_LONG = struct.Struct("<q")
_BLOCK = struct.Struct("<qi4xq")  # offset, bytes of the metadata, bytes of the body
_CONTINUED = b"\xff\xff\xff\xff"
_DICTIONARIES, _BATCHES = 2, 3  # fields of the footer
_HEADER = 2  # of a message
_ROWS, _NODES, _BUFFERS, _COMPRESSION = range(4)  # of a batch
_DATA = 1  # of a dictionary
_AS_IT_IS = -1  # the size of a buffer that compression would not make smaller


@dataclass(frozen=True)
class Batch:
    """The metadata of a batch.

    Attributes:
        num_rows: its number of rows.
        nodes: number of values and of nulls of each column, and of the columns in it, depth first.
        buffers: offset in the body and bytes of each buffer.
        is_compressed: whether buffers are.
        body: offset of the body in the file.
    """

    num_rows: int
    nodes: np.ndarray
    buffers: np.ndarray
    is_compressed: bool
    body: int


class Layout:
    """The batches of an Arrow file that pyarrow has opened.

    Args:
        source: the file, as pyarrow's.

    Raises:
        ValueError: the metadata is damaged.
        OSError: a position is outside of the file.
    """

    def __init__(self, source: Any) -> None:
        self._source = source
        size = source.size()
        length, _ = _unpack(_TAIL, source.read_at(_TAIL.size, size - _TAIL.size))
        footer = _root(source.read_at(length, size - _TAIL.size - length), 0)
        self._blocks = footer.structs(_BATCHES, _BLOCK)
        self._dictionaries = footer.structs(_DICTIONARIES, _BLOCK)
        batches = [self.batch(index) for index in range(len(self._blocks))]
        self.rows = [batch.num_rows for batch in batches]
        self.is_compressed = any(batch.is_compressed for batch in batches)
        self.nodes: Any = np.sum([batch.nodes for batch in batches], axis=0, dtype=np.int64) if batches else None
        for index, batch in enumerate(batches):
            if batch.num_rows < 0 or any(batch.nodes[:1, 0] != batch.num_rows):
                raise ValueError(f"record batch {index} claims {batch.num_rows} rows, which its columns do not have")

    def batch(self, index: int) -> Batch:
        """Return the metadata of a batch of rows."""
        header, body = self._header(self._blocks[index])
        return _batch(header, body)

    def bytes_of(self, index: int) -> np.ndarray:
        """Return the bytes of each buffer of a batch, decoded."""
        return self._decoded(self.batch(index))

    def bytes_of_dictionaries(self) -> int:
        """Return the bytes of all dictionaries, decoded."""
        total = 0
        for block in self._dictionaries:
            header, body = self._header(block)
            total += sum(self._decoded(_batch(header.table(_DATA), body)).tolist())
        return total

    def _header(self, block: tuple[int, ...]) -> "tuple[_Table, int]":
        offset, length, _ = block
        content = self._source.read_at(length, offset)
        message = _root(content, 8 if content.startswith(_CONTINUED) else 4)
        return message.table(_HEADER), offset + length

    def _decoded(self, batch: Batch) -> np.ndarray:
        sizes = batch.buffers[:, 1].copy()
        for index, (offset, length) in enumerate(batch.buffers.tolist() if batch.is_compressed else ()):
            if length:
                (decoded,) = _unpack(_LONG, self._source.read_at(_LONG.size, batch.body + offset))
                sizes[index] = length if decoded == _AS_IT_IS else decoded
        return sizes


@dataclass(frozen=True)
class _Table:
    """A table of FlatBuffers: fields by number."""

    content: bytes
    position: int

    def at(self, field: int) -> int:
        """Return the position of a field; 0 where it is not there."""
        names = self.position - self.number("<i", self.position)
        offset = self.number("<H", names + 4 + 2 * field) if 4 + 2 * field < self.number("<H", names) else 0
        return self.position + offset if offset else 0

    def table(self, field: int) -> "_Table":
        start = self.at(field)
        return _Table(self.content, start + self.number("<I", start))

    def vector(self, field: int) -> tuple[int, int]:
        """Return the position and the length of a vector; of one that is not there 0, 0."""
        if not (start := self.at(field)):
            return 0, 0
        start += self.number("<I", start)
        return start + 4, self.number("<I", start)

    def structs(self, field: int, kind: struct.Struct) -> list[tuple[int, ...]]:
        start, count = self.vector(field)
        return [_unpack(kind, self.content, start + index * kind.size) for index in range(count)]

    def number(self, kind: str, position: int) -> int:
        return int(_unpack(struct.Struct(kind), self.content, position)[0])


def _unpack(kind: struct.Struct, content: bytes, position: int = 0) -> tuple[Any, ...]:
    if not 0 <= position <= len(content) - kind.size:
        raise ValueError("a position in its metadata is out of bounds")
    return kind.unpack_from(content, position)


def _root(content: bytes, start: int) -> _Table:
    table = _Table(content, start)
    return _Table(content, start + table.number("<I", start))


def _batch(header: _Table, body: int) -> Batch:
    rows = header.at(_ROWS)
    return Batch(
        header.number("<q", rows) if rows else 0,
        _pairs(header, _NODES),
        _pairs(header, _BUFFERS),
        header.at(_COMPRESSION) != 0,
        body,
    )


def _pairs(header: _Table, field: int) -> np.ndarray:
    start, count = header.vector(field)
    return np.frombuffer(header.content, "<i8", 2 * count, start).reshape(-1, 2)
