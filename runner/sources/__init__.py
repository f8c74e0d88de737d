"""Sources of rows: the protocol, and the selection of a source for a data set."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch.utils.data import Dataset

from runner.core.imports import import_errors, load_attribute
from runner.core.urls import without_query
from runner.sources.base import DataSpec, Scanned, Source
from runner.sources.registry import SUFFIXES, find_source_format, is_function, is_marked

__all__ = ["DataSpec", "Scanned", "Source", "inner_name", "is_dataset", "open_source"]


def inner_name(data: Any) -> tuple[str, ...]:
    """Return the name in `PATH::NAME` as a tuple; empty where there is none."""
    inner = data.partition("::")[2] if isinstance(data, str) else ""
    return (inner,) if inner else ()


def open_source(
    data: Any, columns: Sequence[str] = (), keep: Sequence[str] = (), most_rows: int | None = None
) -> Source:
    """Open the source for a path, a URL, an array, a tensor or a PyTorch data set.

    Args:
        data: `PATH` or `PATH::NAME`, where NAME is a column or another name within the format; PATH may be a pattern
            such as `part-*.npy`, or a folder of Parquet files; or a list of paths; or an object.
        columns: the columns to read; none for all.
        keep: passthrough columns, written beside the predictions.
        most_rows: see `DataSpec.most_rows`.

    Returns:
        A source whose `row_type` is that of the only column where there is one in all; else a mapping by column.

    Raises:
        InputError: no source fits, or it cannot be opened.
        UsageError: names are given for a format without names; a library is missing.
    """
    if not isinstance(data, str):
        return _open_object(data, DataSpec(f"a {type(data).__name__}", "", columns, keep, most_rows))
    path, _, inner = data.partition("::")
    spec = DataSpec(path, inner, columns, keep, most_rows)
    paths = _files_of(path) or [path]
    if len(paths) > 1 or _is_among_others(path, paths):
        from runner.sources.many import ManySource

        return ManySource(paths, spec)
    return _open(replace(spec, path=paths[0]))


def is_dataset(data: Any) -> bool:
    """Return whether the rows are items of a PyTorch data set, given by itself or by a function's name."""
    return isinstance(data, Dataset) or (isinstance(data, str) and is_function(data.partition("::")[0]))


def _open(spec: DataSpec) -> Source:
    """Open the source for one path or URL, with the reader that the table of formats names."""
    row = find_source_format(spec.path)
    with import_errors(f"--data {spec.path}", row.extra):
        source: Source = load_attribute(row.reader, "--data")(spec)
    return source


def _open_object(data: Any, spec: DataSpec) -> Source:
    """Open a list of paths, a PyTorch data set or an array, given from Python."""
    if _are_paths(data):
        from runner.sources.many import ManySource

        return ManySource([os.fspath(path) for path in data], replace(spec, path=""))
    if isinstance(data, Dataset):
        from runner.sources.torch_dataset import TorchDatasetSource

        return TorchDatasetSource(spec, data)
    from runner.sources.arrays.in_memory import ArraySource

    spec.refuse_names()
    return ArraySource(data)


def _is_among_others(folder: str, paths: Sequence[str]) -> bool:
    """Return whether the only file of a folder has others beside it, which are left out and told of."""
    if paths == [folder] or not os.path.isdir(folder):
        return False
    from runner.sources.left_out import note_on_others

    return note_on_others(folder, paths) != ""


def _are_paths(data: Any) -> bool:
    """Return whether data given from Python are paths, not values."""
    return (
        isinstance(data, list | tuple)
        and len(data) > 0
        and all(isinstance(item, str | os.PathLike) and without_query(str(item)).endswith(SUFFIXES) for item in data)
    )


def _files_of(path: str) -> list[str]:
    """Return the files that a pattern, or a folder of Parquet files, stands for; empty where a path is neither."""
    if is_marked(path):
        return []
    from runner.sources.many import files_of

    return files_of(path)
