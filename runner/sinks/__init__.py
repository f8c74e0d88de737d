"""Where predictions go: the protocol of a sink, and the table that finds one for an output. Used by rank 0 alone."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from runner.errors import OutputError
from runner.grid import Grid
from runner.imports import load_attribute
from runner.rows import RowType

_BY_SUFFIX = {".npy": ("runner.sinks.npy:NpySink", "runner.sinks.npy:NpyFile")}  # alone, and one of many in a folder


class Sink(Protocol):
    """An output of `num_rows` rows that takes them in any order and appears under its name when it is whole.

    Every method raises OutputError when the storage fails.
    """

    def write(self, start: int, rows: np.ndarray) -> None:
        """Put rows at `start..start + len(rows)`."""
        ...

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows as they were written, to check them."""
        ...

    def sync(self) -> None:
        """Make what was written survive a crash of the machine."""
        ...

    def finish(self) -> None:
        """Give the output its own name."""
        ...

    def close(self) -> None:
        """Let go of the output as it is."""
        ...


def check_space(path: str, total_bytes: int) -> None:
    """Raise OutputError where the file system lacks room for `path` to grow to `total_bytes`."""
    try:
        file_system = os.statvfs(os.path.dirname(path) or ".")
        parts = [entry.path for entry in os.scandir(path)] if os.path.isdir(path) else [path]
        has_bytes = sum(os.stat(part).st_blocks * 512 for part in parts if os.path.exists(part))
    except OSError as error:
        raise OutputError(f"--output: {path}: {error.strerror}") from error
    needed, free = total_bytes - has_bytes, file_system.f_bavail * file_system.f_frsize
    if needed > free:
        raise OutputError(
            f"--output: {path} needs {needed:,} bytes more, and its file system has {free:,} free. Make room, or "
            "choose another --output"
        )


@contextmanager
def storage_errors(doing: str, path: str) -> Iterator[None]:
    """Turn what the operating system says into an OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"--output: {doing} {path} failed: {error.strerror}") from error


def rename(partial: str, output: str) -> None:
    """Give a file or a folder its name, so that it outlives a crash.

    Raises:
        OutputError: the storage failed.
    """
    with storage_errors("renaming", partial):
        os.replace(partial, output)
        sync_folder(os.path.dirname(output))


def remove(path: str | os.PathLike[str]) -> None:
    """Delete a file or a folder, where there is one; raises OSError."""
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def sync_folder(path: str) -> None:
    """Make the names in a folder survive a crash; raises OSError."""
    folder = os.open(path or ".", os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def open_sink(output: str, grid: Grid, row_type: RowType) -> Sink:
    """The sink for a path; it goes on with what an unfinished run has written.

    Args:
        output: the final name.
        grid: the cut of the rows; by it the output is a file or a folder.
        row_type: shape and dtype of each.

    Raises:
        OutputError: there is none for this path, or it cannot be opened.
    """
    for suffix, (alone, in_folder) in _BY_SUFFIX.items():
        if output.endswith(suffix):
            sink: Sink
            if grid.shard_chunks:
                from runner.sinks.shards import ShardSink

                sink = ShardSink(output, grid, row_type, load_attribute(in_folder, "--output"), suffix)
            else:
                sink = load_attribute(alone, "--output")(output, grid.num_rows, row_type)
            return sink
    raise OutputError(f"--output {output}: the suffix is not one of {', '.join(_BY_SUFFIX)}")
