"""Where predictions go: the protocol of a sink, and the table that finds one for an output. Used by rank 0 alone."""

import os
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from runner.errors import OutputError
from runner.imports import load_attribute

_BY_SUFFIX = {".npy": "runner.sinks.npy:NpySink"}


@dataclass(frozen=True)
class RowType:
    """The shape and dtype of one row of predictions."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))


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
        has_bytes = os.stat(path).st_blocks * 512 if os.path.exists(path) else 0
    except OSError as error:
        raise OutputError(f"--output: {path}: {error.strerror}") from error
    needed, free = total_bytes - has_bytes, file_system.f_bavail * file_system.f_frsize
    if needed > free:
        raise OutputError(
            f"--output: {path} needs {needed:,} bytes more, and its file system has {free:,} free. Make room, or "
            "choose another --output"
        )


def open_sink(output: str, num_rows: int, row_type: RowType, resume: bool) -> Sink:
    """The sink for a path.

    Args:
        output: the final name.
        num_rows: rows of the whole output.
        row_type: shape and dtype of each.
        resume: keep what an unfinished run has written.

    Raises:
        OutputError: there is none for this path, or it cannot be opened.
    """
    for suffix, spec in _BY_SUFFIX.items():
        if output.endswith(suffix):
            sink: Sink = load_attribute(spec, "--output")(output, num_rows, row_type, resume)
            return sink
    raise OutputError(f"--output {output}: the suffix is not one of {', '.join(_BY_SUFFIX)}")
