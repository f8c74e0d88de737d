"""Sources of rows: the protocol, and the selection of a source for a data set."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch.utils.data import Dataset

from runner.core.errors import InputError, UsageError
from runner.core.imports import import_errors, load_attribute
from runner.sources.base import DataSpec, ReadOptions, Scanned, Source
from runner.sources.contents import hint_of_contents
from runner.sources.registry import (
    DATASET_FUNCTION,
    OBJECT,
    REQUESTS,
    SourceFormat,
    find_source_format,
    is_compressed_text,
    is_function,
    is_marked,
    is_named,
)

__all__ = [
    "DataSpec",
    "ReadOptions",
    "Scanned",
    "Source",
    "are_requests",
    "compressed_files",
    "inner_name",
    "is_dataset",
    "open_source",
    "without_column",
]


def inner_name(data: Any) -> tuple[str, ...]:
    """Return the name in `PATH::NAME` as a tuple; empty where there is none."""
    inner = data.partition("::")[2] if isinstance(data, str) else ""
    return (inner,) if inner else ()


def open_source(
    data: Any,
    columns: Sequence[str] = (),
    keep: Sequence[str] = (),
    most_rows: int | None = None,
    options: ReadOptions = ReadOptions(),  # noqa: B008 - it is frozen
) -> Source:
    """Open the source for a path, a URL, an array, a tensor or a PyTorch data set.

    Args:
        data: `PATH` or `PATH::NAME`, where NAME is a column or another name within the format; PATH may be a pattern
            such as `part-*.npy`, or a folder of Parquet files; or a list of paths; or an object.
        columns: the columns to read; none for all.
        keep: passthrough columns, written beside the predictions.
        most_rows: see `DataSpec.most_rows`.
        options: how values are read.

    Returns:
        A source whose `row_type` is that of the only column where there is one in all; else a mapping by column.

    Raises:
        InputError: no source fits, or it cannot be opened.
        UsageError: names are given for a format without names; a library is missing.
    """
    if not isinstance(data, str):
        return _open_object(data, DataSpec(f"a {type(data).__name__}", "", columns, keep, most_rows, options))
    path, _, inner = data.partition("::")
    spec = DataSpec(path, inner, columns, keep, most_rows, options)
    paths = _files_of(path) or [path]
    note = _note_on_others(path, paths) if len(paths) == 1 else None
    if len(paths) > 1 or note:
        from runner.sources.many import ManySource

        return ManySource(paths, spec, note)
    return _open(replace(spec, path=paths[0]))


def without_column(data: Any) -> Any:
    """Return data given as `PATH::NAME` without the name, where that is a column; a table of a database is none."""
    if not isinstance(data, str) or not inner_name(data):
        return data
    path = data.partition("::")[0]
    return data if find_source_format((_files_of(path) or [path])[0]).is_divided else path


def compressed_files(data: Any) -> list[str]:
    """Return the files of a data set that are decompressed before their rows are read."""
    if isinstance(data, str):
        path = data.partition("::")[0]
        return list(filter(is_compressed_text, _files_of(path) or [path]))
    return [path for path in map(os.fspath, data) if is_compressed_text(path)] if _are_paths(data) else []


def are_requests(data: Any, columns: Sequence[str], keep: Sequence[str], types: Mapping[str, str]) -> bool:
    """Return whether the rows of data are requests in the batch format of OpenAI's API.

    Args:
        data: see `open_source`.
        columns, keep, types: columns that are chosen, and their types; where there are any, rows are those of a table.

    Raises:
        InputError: the data cannot be read.
    """
    if isinstance(data, list | tuple) and _are_paths(data):
        data = os.fspath(data[0])
    if not isinstance(data, str) or inner_name(data) or columns or keep or types:
        return False
    path = (_files_of(data) or [data])[0]
    if find_source_format(path).reader != REQUESTS:
        return False
    from runner.sources.tables.requests import holds_requests

    return holds_requests(path)


def is_dataset(data: Any) -> bool:
    """Return whether the rows are items of a data set like PyTorch's, given by itself or by a function's name."""
    if isinstance(data, str):
        return is_function(data.partition("::")[0])
    from runner.sources.torch_dataset import has_items

    is_array = hasattr(data, "__array__") or isinstance(data, Sequence | Mapping)
    return isinstance(data, Dataset) or (has_items(data) and not is_array)


def _open(spec: DataSpec) -> Source:
    """Open the source for one path or URL, with the reader that the table of formats names."""
    row = find_source_format(spec.path)
    _check_options(spec, row)
    try:
        with import_errors(f"--data {spec.path}", row.extra):
            source: Source = load_attribute(row.reader, "--data")(spec)
    except InputError as error:
        if hint := hint_of_contents(spec.path, row.suffixes):
            raise InputError(f"{error.message.removesuffix('.')}{hint}", error.details) from error
        raise
    return source


def _check_options(spec: DataSpec, row: SourceFormat) -> None:
    """Raise UsageError where an option is given that says nothing about this format."""
    options = spec.options
    if options.args and row is not DATASET_FUNCTION:
        raise UsageError(f"{spec.what}: --data-args are for a function that makes a data set: package.module:function")
    if options.types and not row.is_typed:
        raise UsageError(f"{spec.what}: --types is for tables: CSV, JSON lines, Parquet, Arrow, folders of Datasets")
    if options.null_is_nan and not row.has_nulls:
        raise UsageError(f"{spec.what}: --null is for tables, and this format has no null")


def _open_object(data: Any, spec: DataSpec) -> Source:
    """Open a list of paths, a PyTorch data set or an array, given from Python."""
    if _are_paths(data):
        from runner.sources.many import ManySource

        return ManySource([os.fspath(path) for path in data], replace(spec, path=""))
    _check_options(spec, OBJECT)
    if is_dataset(data):
        from runner.sources.torch_dataset import TorchDatasetSource

        return TorchDatasetSource(spec, data)
    from runner.sources.arrays.in_memory import ArraySource

    spec.refuse_names()
    return ArraySource(data)


def _note_on_others(folder: str, paths: Sequence[str]) -> str:
    """Return the note on files beside the only one of a folder, which are left out; empty where there are none."""
    if paths == [folder] or not os.path.isdir(folder):
        return ""
    from runner.sources.left_out import note_on_others

    return note_on_others(folder, paths)


def _are_paths(data: Any) -> bool:
    """Return whether data given from Python are paths, not values."""
    return (
        isinstance(data, list | tuple)
        and len(data) > 0
        and all(isinstance(item, str | os.PathLike) and is_named(str(item)) for item in data)
    )


def _files_of(path: str) -> list[str]:
    """Return the files that a pattern, or a folder of Parquet files, stands for; empty where a path is neither."""
    if is_marked(path):
        return []
    from runner.sources.patterns import files_of

    return files_of(path)
