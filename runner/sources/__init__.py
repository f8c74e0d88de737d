"""Where rows come from: the protocol of a source, and the table that finds one for a data set."""

import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from runner.errors import InputError, UsageError
from runner.imports import load_attribute
from runner.rows import Rows, RowTypes

# each is made of a path, the name after `::` in it or "", the columns to read (none for all), and those to keep beside
_BY_SUFFIX = {
    ".npy": "runner.sources.npy:NpySource",
    ".npz": "runner.sources.npz:NpzSource",
    ".parquet": "runner.sources.parquet:ParquetSource",
    ".csv": "runner.sources.csv:CsvSource",
    ".tsv": "runner.sources.csv:CsvSource",
    ".jsonl": "runner.sources.jsonl:JsonLinesSource",
    ".ndjson": "runner.sources.jsonl:JsonLinesSource",
    ".txt": "runner.sources.lines:TextSource",
    ".h5": "runner.sources.hdf5:Hdf5Source",
    ".hdf5": "runner.sources.hdf5:Hdf5Source",
    ".zarr": "runner.sources.zarr:ZarrSource",
    ".tar": "runner.sources.tar:TarSource",
}
_BY_MEMBER = {  # of a folder
    "index.json": "runner.sources.shards:ShardSource",
    "dataset_info.json": "runner.sources.huggingface:DatasetsSource",
}
_DATABASES = ("sqlite://", "postgresql://", "postgresql+", "mysql://", "mysql+")


class Source(Protocol):
    """A data set of `num_rows` rows that gives any range of them.

    Attributes:
        num_rows: how many there are.
        row_type: shape and dtype of each; of several columns by name.
        row_bytes: what a row takes, on average.
    """

    @property
    def num_rows(self) -> int: ...
    @property
    def row_type(self) -> RowTypes: ...
    @property
    def row_bytes(self) -> int: ...

    def read(self, start: int, stop: int) -> Rows:
        """Rows `start..stop` in memory of their own, contiguous, in native byte order.

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


def open_source(data: Any, columns: Sequence[str] = (), keep: Sequence[str] = ()) -> Source:
    """The source for a path, a URL, or for an array, a tensor or a data set of PyTorch.

    Args:
        data: `PATH` or `PATH::NAME`, where NAME is a column, or what else the format has in it by name; or an object.
        columns: which of several; none for all.
        keep: more columns, which are to be kept beside the predictions.

    Returns:
        A source whose `row_type` is that of the one column where there is but one, with `keep`; else a mapping.

    Raises:
        InputError: there is none for it, or it cannot be opened.
        UsageError: names are given for what has none; a library is missing.
    """
    if not isinstance(data, str):
        from runner.sources.array import ArraySource

        refuse_names("data", "", (*columns, *keep))
        return ArraySource(data)
    path, _, inner = data.partition("::")
    source: Source = load_attribute(_find(path), "--data")(path, inner, columns, keep)
    return source


def _find(path: str) -> str:
    """What reads a path."""
    if path.startswith(_DATABASES):
        return "runner.sources.database:DatabaseSource"
    for suffix, spec in _BY_SUFFIX.items():
        if path.endswith(suffix):
            return spec
    if os.path.isdir(path):
        for name, spec in _BY_MEMBER.items():
            if os.path.exists(os.path.join(path, name)):
                return spec
        return "runner.sources.images:ImageSource"
    raise UsageError(f"--data {path!r} must end in {' or '.join(_BY_SUFFIX)}, or be a folder")


def refuse_names(path: str, inner: str, columns: Sequence[str]) -> None:
    """Raise UsageError where something by name is asked for in a format that has no names."""
    if inner or columns:
        raise UsageError(f"--data {path} has no columns to choose {inner or ', '.join(columns)} from")


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
