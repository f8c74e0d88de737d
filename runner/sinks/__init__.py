"""Where predictions go: the protocol of a sink, and how one is found for an output. Used by rank 0 alone."""

import functools
import inspect
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xxhash

from runner.chunks.grid import Grid
from runner.config.formats import HIDDEN_INDEX, find_output_format
from runner.core.errors import OutputError, UsageError
from runner.core.imports import import_errors, load_attribute
from runner.core.text import byte_size
from runner.data.columns import types_by_name
from runner.data.rows import RowType, RowTypes, describe_type

INDEX = "index.json"  # of an output that is a folder of .npy files with shards of rows
_READ_BYTES = 16 << 20


class Sink(Protocol):
    """An output of `num_rows` rows that takes them in any order and appears under its name when it is complete.

    Every method raises OutputError when the storage fails.
    """

    def write(self, start: int, rows: np.ndarray) -> None:
        """Write rows at `start..start + len(rows)`."""
        ...

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows as they were written, for a check."""
        ...

    def sync(self) -> None:
        """Make the chunks written so far survive a crash of the machine."""
        ...

    def complete(self) -> str:
        """Prepare the output for `finish`; all rows have been written.

        Returns:
            The checksum of the file or folder, for a check; "" where its rows can be read and compared instead.
        """
        ...

    def finish(self) -> None:
        """Give the output its final name."""
        ...

    def discard(self) -> None:
        """Delete auxiliary files, once all else is done."""
        ...

    def close(self) -> None:
        """Release the output in its present state."""
        ...


def check_space(path: str, total_bytes: int) -> None:
    """Raise OutputError where the file system lacks the space for `path` to grow to `total_bytes`."""
    try:
        file_system = os.statvfs(os.path.dirname(path) or ".")
        parts = [entry.path for entry in os.scandir(path)] if os.path.isdir(path) else [path]
        has_bytes = sum(os.stat(part).st_blocks * 512 for part in parts if os.path.exists(part))
    except OSError as error:
        raise OutputError(f"--output: {path}: {error.strerror}") from error
    needed = total_bytes - has_bytes
    free = file_system.f_bavail * file_system.f_frsize
    if needed > free:
        raise OutputError(
            f"--output: {path} needs {byte_size(needed)} more, and its file system has {byte_size(free)} free. Free "
            "space, or choose another --output"
        )


@contextmanager
def storage_errors(doing: str, path: str) -> Iterator[None]:
    """Convert OSErrors of the storage to OutputErrors."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"--output: {doing} {path} failed: {error.strerror or error}") from error


def write_all(fd: int, buffer: memoryview, position: int) -> None:
    """Write all bytes at a position of an open file; raise OSError where that fails."""
    while buffer:
        count = os.pwrite(fd, buffer, position)
        buffer = buffer[count:]
        position += count


def read_all(fd: int, buffer: memoryview, position: int, path: str) -> None:
    """Fill a buffer from a position in an open file; raise OSError, or OutputError where the file ends before."""
    while buffer:
        count = os.preadv(fd, [buffer], position)
        if not count:
            raise OutputError(f"--output: {path} ends at byte {position}, inside its rows")
        buffer = buffer[count:]
        position += count


def rename(partial: str, output: str) -> None:
    """Rename a file or a folder so that the name survives a crash.

    Raises:
        OutputError: the storage failed.
    """
    with storage_errors("renaming", partial):
        os.replace(partial, output)
        sync_folder(os.path.dirname(output))


def remove(path: str | os.PathLike[str]) -> None:
    """Delete a file or a folder, if it exists; raise OSError where that fails."""
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def sync_folder(path: str) -> None:
    """Make the names in a folder survive a crash; raise OSError where that fails."""
    folder = os.open(path or ".", os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def path_checksum(path: str) -> str:
    """Return the checksum of a file, or of the names and contents of all files in a folder; raise OSError."""
    state = xxhash.xxh3_128()
    for file in files_of(path):
        if file.name == HIDDEN_INDEX:  # which is written when all else is done
            continue
        state.update(os.path.relpath(file, path).encode())
        with open(file, "rb", buffering=0) as opened:
            while block := opened.read(_READ_BYTES):
                state.update(block)
    return f"xxh3:{state.hexdigest()}"


def files_of(path: str) -> list[Path]:
    """Return the file, or all files in a folder, sorted by name."""
    if not os.path.isdir(path):
        return [Path(path)]
    return sorted(file for file in Path(path).rglob("*") if file.is_file())


def find_writer(output: str, row_type: RowTypes) -> Any:
    """Return the class that writes the format of an output; None for .npy, whose rows are written in place.

    Raises:
        UsageError: the format cannot hold such rows, or its library is missing.
    """
    format, _ = find_output_format(output)
    if format.writer is not None:
        writer = load_attribute(format.writer, "--output")
        with import_errors(f"--output {output}", format.extra):
            writer.check(output, types_by_name(row_type))
        return writer
    if not isinstance(row_type, RowType):
        raise UsageError(
            f"--output {output}: .npy cannot hold variable-length rows ({describe_type(row_type)}); .parquet and "
            ".jsonl can"
        )
    return None


def open_sink(output: str, grid: Grid, row_type: RowTypes, origin: Mapping[str, str]) -> Sink:
    """Open the sink for a path; it resumes from what an unfinished run has written.

    Args:
        output: final name of the output.
        grid: partition of the rows; it decides between a file and a folder.
        row_type: row type of the predictions.
        origin: what the output says of its origin, where its format has attributes or metadata for it.

    Raises:
        OutputError: it cannot be opened.
        UsageError: the format cannot hold such rows, or its library is missing.
    """
    _, suffix = find_output_format(output)
    writer = find_writer(output, row_type)
    if writer:
        if "attributes" in inspect.signature(writer).parameters:
            writer = functools.partial(writer, attributes=origin)
        from runner.sinks.spool import SpooledFile, SpoolSink

        if not grid.shard_chunks:
            return SpoolSink(output.rstrip("/"), grid.num_rows, grid.chunk_size, row_type, writer)
        file_type: Any
        file_type = functools.partial(SpooledFile, writer, grid.chunk_size)
        index = HIDDEN_INDEX
    else:
        from runner.sinks.npy import NpyFile, NpySink

        assert isinstance(row_type, RowType)
        if not grid.shard_chunks:
            return NpySink(output, grid.num_rows, row_type)
        file_type = NpyFile
        index = INDEX
    from runner.sinks.shards import ShardSink

    return ShardSink(output, grid, row_type, file_type, suffix, index)
