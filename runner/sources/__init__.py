"""Where rows come from: the protocol of a source, and the table that finds one for a data set."""

import os
from typing import Any, Protocol

import numpy as np

from runner.errors import InputError
from runner.imports import load_attribute
from runner.rows import Ragged, Rows

RAGGED = (-1,)  # the shape of rows of unlike lengths

_BY_SUFFIX = {
    ".npy": "runner.sources.npy:NpySource",
    ".parquet": "runner.sources.parquet:ParquetSource",
}


class Source(Protocol):
    """A data set of `num_rows` rows, each of `row_shape` and `dtype`, that gives any range of them.

    `row_shape` is RAGGED where rows are 1-D of unlike lengths; `row_bytes` is what a row takes, on average.
    """

    num_rows: int
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    row_bytes: int

    def read(self, start: int, stop: int) -> Rows:
        """Rows `start..stop` in memory of their own: `(stop - start, *row_shape)`, contiguous, native byte order.

        May be called from another thread.

        Raises:
            InputError: they cannot be read.
        """
        ...

    def digest(self) -> str:
        """A checksum that tells another data set from this one. It may sample a large one."""
        ...

    def stamp(self) -> str:
        """What is another as soon as the data set has been written to, and quick to get; its rows may be the same."""
        ...


def open_source(data: Any) -> Source:
    """The source for a path, or for an array or tensor.

    Raises:
        InputError: there is none for it, or it cannot be opened.
    """
    if isinstance(data, str):
        if os.path.isdir(data):
            from runner.sources.shards import ShardSource

            return ShardSource(data)
        for suffix, spec in _BY_SUFFIX.items():
            if data.partition("::")[0].endswith(suffix):
                source: Source = load_attribute(spec, "--data")(data)
                return source
        raise InputError(f"--data {data}: the suffix is not one of {', '.join(_BY_SUFFIX)}")
    from runner.sources.array import ArraySource

    return ArraySource(data)


def zero_row(source: Source) -> Rows:
    """One row of zeros, for a data set that has none."""
    if source.row_shape == RAGGED:
        return Ragged(np.zeros(1, source.dtype), np.array([0, 1]))
    return np.zeros((1, *source.row_shape), source.dtype)


def file_stamp(path: str) -> str:
    """The stamp of a data set that is one file.

    Raises:
        InputError: it is gone.
    """
    try:
        status = os.stat(path)  # by name: a file put in its place counts, too
    except OSError as error:
        raise InputError(f"--data {path}: {error.strerror}") from error
    return f"{status.st_size} bytes of {status.st_mtime_ns}"


def check_dtype(dtype: np.dtype[Any], what: str) -> None:
    """Raise InputError unless torch can hold the dtype."""
    if dtype.names is not None:
        for name in dtype.names:
            check_dtype(dtype[name].base, f"field {name!r} of {what}")
    elif dtype.kind not in "biufc" or dtype.itemsize > 16 or dtype.name in ("float128", "longdouble"):
        raise InputError(
            f"{what} is of dtype {dtype}; rows must be bool, integer, floating-point or complex numbers. "
            "Save it again with .astype(...)"
        )
