"""Sources of rows: the protocol, and the table that selects a source for a data set."""

import os
import re
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch.utils.data import Dataset

from runner.core.errors import InputError, UsageError
from runner.core.imports import load_attribute
from runner.core.plugins import find_plugin
from runner.data.rows import Rows, RowTypes

# the class of each is called with a path, the name after `::` in it or "", the columns to read (none for all), and the
# passthrough columns
_BY_SUFFIX = {
    ".npy": "runner.sources.arrays.npy:NpySource",
    ".npz": "runner.sources.arrays.npz:NpzSource",
    ".parquet": "runner.sources.tables.parquet:ParquetSource",
    ".csv": "runner.sources.tables.csv:CsvSource",
    ".tsv": "runner.sources.tables.csv:CsvSource",
    ".jsonl": "runner.sources.tables.jsonl:JsonLinesSource",
    ".ndjson": "runner.sources.tables.jsonl:JsonLinesSource",
    ".txt": "runner.sources.tables.lines:TextSource",
    ".h5": "runner.sources.arrays.hdf5:Hdf5Source",
    ".hdf5": "runner.sources.arrays.hdf5:Hdf5Source",
    ".zarr": "runner.sources.arrays.zarr:ZarrSource",
    ".tar": "runner.sources.media.tar:TarSource",
}
_BY_MEMBER = {  # of a folder
    "index.json": "runner.sources.shards:ShardSource",
    "dataset_info.json": "runner.sources.tables.datasets_folder:DatasetsSource",
    "dataset_dict.json": "runner.sources.tables.datasets_folder:DatasetsSource",
}
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")  # package.module:function
_DATABASES = ("sqlite://", "postgresql://", "postgresql+", "mysql://", "mysql+")


class Source(Protocol):
    """A data set of `num_rows` rows from which any range can be read.

    Attributes:
        num_rows: number of rows.
        row_type: shape and dtype of a row; by name where there are several columns.
        row_bytes: average size of a row, in bytes.
    """

    @property
    def num_rows(self) -> int: ...
    @property
    def row_type(self) -> RowTypes: ...
    @property
    def row_bytes(self) -> int: ...

    def read(self, start: int, stop: int) -> Rows:
        """Read rows `start..stop` into memory of their own, contiguous, in native byte order.

        May be called from another thread.

        Raises:
            InputError: the rows cannot be read.
        """
        ...

    def digest(self) -> str:
        """Return a checksum that differs for another data set. It may sample a large one."""
        ...

    def stamp(self) -> str:
        """Return a value, quick to get, that changes whenever the data set is written to, even with the same rows."""
        ...


@runtime_checkable
class Scanned(Protocol):
    """A source whose rows are known only after a scan, which all ranks share, each over a part."""

    def scan(self, part: int, parts: int) -> Any:
        """Return the contents of one of several parts."""
        ...

    def use(self, scans: Sequence[Any]) -> None:
        """Take the scans of all parts, in order."""
        ...


def inner_name(data: Any) -> tuple[str, ...]:
    """Return the name in `PATH::NAME` as a tuple; empty where there is none."""
    inner = data.partition("::")[2] if isinstance(data, str) else ""
    return (inner,) if inner else ()


def open_source(data: Any, columns: Sequence[str] = (), keep: Sequence[str] = ()) -> Source:
    """Open the source for a path, a URL, an array, a tensor or a PyTorch data set.

    Args:
        data: `PATH` or `PATH::NAME`, where NAME is a column or another name within the format; PATH may be a pattern
            such as `part-*.npy`, or a folder of Parquet files; or a list of paths; or an object.
        columns: the columns to read; none for all.
        keep: passthrough columns, written beside the predictions.

    Returns:
        A source whose `row_type` is that of the only column where there is one in all; else a mapping by column.

    Raises:
        InputError: no source fits, or it cannot be opened.
        UsageError: names are given for a format without names; a library is missing.
    """
    from runner.sources.many import ManySource

    if _are_paths(data):
        return ManySource([os.fspath(path) for path in data], "", columns, keep)
    if isinstance(data, Dataset):
        from runner.sources.torch_dataset import TorchDatasetSource

        return TorchDatasetSource(data, "", columns, keep)
    if not isinstance(data, str):
        from runner.sources.arrays.in_memory import ArraySource

        refuse_names("data", "", (*columns, *keep))
        return ArraySource(data)
    path, _, inner = data.partition("::")
    paths = _files_of(path) or [path]
    if len(paths) > 1:
        return ManySource(paths, inner, columns, keep)
    source: Source = load_attribute(_find(paths[0]), "--data")(paths[0], inner, columns, keep)
    return source


def _are_paths(data: Any) -> bool:
    """Return whether data given from Python are paths, not values."""
    return (
        isinstance(data, list | tuple)
        and len(data) > 0
        and all(isinstance(item, str | os.PathLike) and str(item).endswith(tuple(_BY_SUFFIX)) for item in data)
    )


def _files_of(path: str) -> list[str]:
    """Return the files that a pattern, or a folder of Parquet files, stands for; empty where a path is neither."""
    if path.startswith(_DATABASES) or any(os.path.exists(os.path.join(path, name)) for name in _BY_MEMBER):
        return []
    from runner.sources.many import files_of

    return files_of(path)


def _find(path: str) -> str:
    """Return the class that reads a path, as `module:class`."""
    if path.startswith(_DATABASES):
        return "runner.sources.tables.database:DatabaseSource"
    path = path.rstrip("/")
    if _FACTORY.fullmatch(path) and not os.path.exists(path):
        return "runner.sources.torch_dataset:TorchDatasetSource"
    for name, spec in _BY_MEMBER.items():  # first: an output that is a folder may be called p.npy
        if os.path.exists(os.path.join(path, name)):
            return spec
    for suffix, spec in _BY_SUFFIX.items():
        if path.endswith(suffix):
            return spec
    if plugin := find_plugin("sources", path):
        return plugin[1]
    if os.path.isdir(path):
        return "runner.sources.media.images:ImageSource"
    raise UsageError(
        f"--data {path!r} must end in {' or '.join(_BY_SUFFIX)}, or be a folder, or package.module:function that "
        "gives a data set of PyTorch"
    )


def refuse_names(path: str, inner: str, columns: Sequence[str]) -> None:
    """Raise UsageError where a name is requested in a format without names."""
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
