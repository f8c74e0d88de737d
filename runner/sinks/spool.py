"""Outputs in formats that must be written in order and in one go: chunks are spooled first, in order of arrival.

`NAME.partial` is a file of records, each a header and the bytes of a chunk, to which a resumed job appends. When all
chunks are there, the format's own library writes them in row order to `NAME.writing`, which is then renamed to NAME.
"""

import contextlib
import os
import shutil
import struct
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from runner.core.checksum import as_bytes
from runner.core.errors import OutputError, describe
from runner.core.tracebacks import traceback_of
from runner.data.columns import UNNAMED, Columns, types_by_name, unpack
from runner.data.rows import RowType, RowTypes, row_bytes_of
from runner.sinks import check_space, files_of, path_checksum, read_all, remove, rename, storage_errors, write_all

_HEAD = struct.Struct("<4sQQ")  # magic, first row, number of bytes that follow
_MAGIC = b"SPL1"
_MOST_FLUSHED = 100


class Writer(Protocol):
    """A writer of a file from its first row to its last; made from its path, the columns' types and the number of rows.

    Every method may raise OSError, and any other exception of its library.
    """

    def write(self, columns: Columns) -> None:
        """Append rows."""
        ...

    def close(self) -> None:
        """Complete the file."""
        ...


class Spool:
    """A file of records; existing records are kept, except a last one that is incomplete.

    Args:
        path: path of the file.
        row_type: row type of the predictions.

    Raises:
        OutputError: from every method, when the storage fails.
    """

    def __init__(self, path: str, row_type: RowTypes) -> None:
        self._path = path
        self._row_type = row_type
        self._places: dict[int, tuple[int, int]] = {}  # position and size in bytes, by first row
        with storage_errors("opening", path):
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            self._end = self._scan(os.fstat(self._fd).st_size)
            os.ftruncate(self._fd, self._end)

    def write(self, start: int, rows: np.ndarray) -> None:
        """Append a chunk that begins with row `start`: packed bytes, or rows of fixed size."""
        body = as_bytes(np.ascontiguousarray(rows))
        with storage_errors("writing", self._path):
            write_all(self._fd, memoryview(_HEAD.pack(_MAGIC, start, len(body))), self._end)
            write_all(self._fd, body, self._end + _HEAD.size)
        self._places[start] = self._end + _HEAD.size, len(body)
        self._end += _HEAD.size + len(body)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the bytes of the chunk of these rows, 1-D uint8, as they were written; empty where it is missing."""
        position, size = self._places.get(start, (0, 0))
        packed = np.empty(size, np.uint8)
        with storage_errors("reading", self._path):
            read_all(self._fd, memoryview(packed), position, self._path)
        return packed

    def has(self, starts: range) -> bool:
        """Return whether all chunks that begin with these rows are there."""
        return all(start in self._places for start in starts)

    def columns(self, start: int, stop: int) -> Columns:
        """Return the chunk of these rows as columns by name."""
        raw = self.read(start, stop)
        if not isinstance(self._row_type, RowType):
            return unpack(raw, self._row_type, stop - start)
        rows = raw.view(self._row_type.dtype).reshape(stop - start, *self._row_type.shape)
        if rows.dtype.names is None:
            return {UNNAMED: rows}
        return {name: rows[name] for name in rows.dtype.names}

    def sync(self) -> None:
        """Make the chunks written so far survive a crash of the machine."""
        with storage_errors("flushing", self._path):
            os.fsync(self._fd)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _scan(self, size: int) -> int:
        """Find the records, and return the end of the last complete one."""
        position = 0
        while position + _HEAD.size <= size:
            head = os.pread(self._fd, _HEAD.size, position)
            magic, start, length = _HEAD.unpack(head)
            if magic != _MAGIC or position + _HEAD.size + length > size:
                break
            self._places[start] = position + _HEAD.size, length
            position += _HEAD.size + length
        return position


class SpoolSink:
    """An output of one file or folder, made by a writer from the spooled chunks.

    Args:
        output: final name of the output.
        num_rows: number of rows that it will hold.
        chunk_size: rows of a chunk; the last may have fewer.
        row_type: row type of the predictions.
        writer: the class that writes the format.

    Raises:
        OutputError: from every method, when the storage fails or the format cannot hold such rows.
    """

    def __init__(self, output: str, num_rows: int, chunk_size: int, row_type: RowTypes, writer: Any) -> None:
        self._output = output
        self._num_rows = num_rows
        self._chunk_size = chunk_size
        self._types = types_by_name(row_type)
        self._writer = writer
        self._writing = f"{output}.writing"
        self._partial = f"{output}.partial"
        check_space(self._partial, num_rows * row_bytes_of(row_type) if isinstance(row_type, RowType) else 0)
        self._spool = Spool(self._partial, row_type)
        self.write = self._spool.write
        self.read = self._spool.read
        self.sync = self._spool.sync

    def complete(self) -> str:
        with storage_errors("writing", self._writing):
            remove(self._writing)
            write_in_order(self._spool, self._writing, self._num_rows, self._chunk_size, self._types, self._writer)
            return path_checksum(self._writing)

    def finish(self) -> None:
        replaced = f"{self._output}.replaced"
        if os.path.isdir(self._output):  # a folder cannot replace one that is not empty
            with storage_errors("replacing", self._output):
                shutil.rmtree(replaced, ignore_errors=True)
                os.replace(self._output, replaced)
        rename(self._writing, self._output)
        shutil.rmtree(replaced, ignore_errors=True)

    def discard(self) -> None:
        self.close()
        with storage_errors("removing", self._partial):
            remove(self._partial)

    def close(self) -> None:
        self._spool.close()


class SpooledFile:
    """A file of a folder; its spool lies beside it until all files are complete.

    Args:
        writer: the class that writes the format.
        chunk_size: rows of a chunk; the last may have fewer.
        path: path of the file.
        num_rows: number of rows that it will hold.
        row_type: row type of the predictions.

    Raises:
        OutputError: from every method, when the storage fails.
    """

    def __init__(self, writer: Any, chunk_size: int, path: str, num_rows: int, row_type: RowTypes) -> None:
        self._writer = writer
        self._chunk_size = chunk_size
        self._path = path
        self._num_rows = num_rows
        self._types = types_by_name(row_type)
        self._spool = Spool(f"{path}.spool", row_type)
        self._is_changed = False
        self.read = self._spool.read
        self.sync = self._spool.sync
        self.close = self._spool.close

    def write(self, start: int, rows: np.ndarray) -> None:
        self._is_changed = True
        self._spool.write(start, rows)

    def complete(self) -> str:
        """Write the file if all its chunks are there and it is not up to date."""
        is_complete = self._spool.has(range(0, self._num_rows, self._chunk_size))
        if is_complete and (self._is_changed or not os.path.exists(self._path)):
            writing = f"{self._path}.writing"
            with storage_errors("writing", writing):
                write_in_order(self._spool, writing, self._num_rows, self._chunk_size, self._types, self._writer)
                os.replace(writing, self._path)
            self._is_changed = False
        return ""

    def discard(self) -> None:
        self.close()
        with storage_errors("removing", self._path):
            remove(f"{self._path}.spool")


def write_in_order(
    spool: Spool, path: str, num_rows: int, chunk_size: int, types: Mapping[str, RowType], writer: Any
) -> None:
    """Write all chunks of a spool to a file of another format, and flush it to the storage.

    Raises:
        OSError, OutputError: the storage failed.
    """
    out: Writer | None = None
    try:
        out = writer(path, types, num_rows)
        for start in range(0, num_rows, chunk_size):
            out.write(spool.columns(start, min(start + chunk_size, num_rows)))
        out.close()
    except Exception as error:
        if out is not None:
            with contextlib.suppress(Exception):  # it may fail for the same reason, and the file is of no use
                out.close()
        if isinstance(error, OSError | OutputError):
            raise
        # HDF5 has an exception of its own for a full disk
        raise OutputError(f"--output: writing {path} failed: {describe(error)}", traceback_of(error)) from error
    files = files_of(path)
    if len(files) > _MOST_FLUSHED:  # flushing them one by one would take longer than writing them
        os.sync()
        return
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
