"""The files that a pattern, or a folder of Parquet files, stands for."""

import glob
import json
import os
import re
from pathlib import Path

from runner.config.formats import HIDDEN_INDEX
from runner.core.errors import InputError, describe
from runner.core.urls import is_url, storage_of, without_query
from runner.sources.left_out import refuse_tables
from runner.sources.registry import FOLDER_SUFFIXES, JOINED_SUFFIXES

_MAGIC = re.compile(r"[*?[]")
_SERIES = re.compile(r"\{(\d+)\.\.(\d+)\}", re.ASCII)
_LONGEST_SERIES = 1_000_000


def files_of(path: str) -> list[str]:
    """Return the files that a pattern or a folder of files stands for, in order; empty where a path is neither."""
    if paths := _series(path):
        return paths
    if _is_pattern(path):
        return expand(path)
    if os.path.isdir(path) and not path.rstrip("/").endswith(FOLDER_SUFFIXES):
        return _shards(path) or _joined_files(path)
    return []


def expand(pattern: str) -> list[str]:
    """Return the sorted files that match a pattern: `*`, `?`, `[...]` inside a name, `**` for any folders.

    Args:
        pattern: a local path, or a URL.

    Raises:
        InputError: no file matches, they are those of a table with a log, or the storage fails.
        UsageError: fsspec, or the package it needs for this kind of URL, is missing.
    """
    if is_url(pattern):
        matches = _matches_of_url(pattern)
    else:
        matches = [
            path
            for path in glob.glob(pattern, recursive=True)
            if os.path.isfile(path) or path.rstrip("/").endswith(FOLDER_SUFFIXES)
        ]
    if not matches:
        raise InputError(f"--data {pattern}: no file matches")
    refuse_tables(f"--data {pattern}", {os.path.dirname(path) for path in matches})
    return sorted(set(matches))


def _series(path: str) -> list[str]:
    """Return the paths that `{000..009}` in a path stands for, as in WebDataset; empty where there is none.

    Raises:
        InputError: they are too many.
    """
    match = _SERIES.search(without_query(path))
    if not match or os.path.exists(path):
        return []
    first, last = int(match[1]), int(match[2])
    if last - first >= _LONGEST_SERIES:
        raise InputError(f"--data {path} names {last - first + 1:,} files, and at most {_LONGEST_SERIES:,} are read")
    digits = len(match[1])
    paths = [f"{path[: match.start()]}{index:0{digits}d}{path[match.end() :]}" for index in range(first, last + 1)]
    return [further for path in paths for further in _series(path) or [path]]


def _matches_of_url(pattern: str) -> list[str]:
    storage, name = storage_of(pattern, "--data")
    try:
        storage.invalidate_cache()
        infos = storage.glob(name, detail=True)
    except Exception as error:
        raise InputError(f"--data {pattern}: {describe(error)}") from error
    return [storage.unstrip_protocol(match) for match, info in infos.items() if info.get("type") != "directory"]


def _is_pattern(path: str) -> bool:
    """Return whether a path is a pattern to expand; an existing local file with such a name is not."""
    return _MAGIC.search(without_query(path)) is not None and (is_url(path) or not os.path.exists(path))


def _shards(folder: str) -> list[str]:
    """Return the files of a folder that a job wrote with --collect shards, in order of their rows; empty for others."""
    try:
        index = json.loads(Path(folder, HIDDEN_INDEX).read_text())
        return [os.path.join(folder, file["name"]) for file in index["files"]]
    except (OSError, ValueError, KeyError, TypeError):  # of files for a row each, or of another program
        return []


def _joined_files(folder: str) -> list[str]:
    """Return the files of one data set in a folder and below, as Spark writes them; empty where it is no data set.

    A folder is a data set where it holds such a file, or folders named by the values of a column, such as `day=3`.
    """
    visible = [name for name in os.listdir(folder) if not name.startswith(("_", "."))]
    if not any(name.endswith(JOINED_SUFFIXES) or "=" in name for name in visible):
        return []
    paths: list[str] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(("_", "."))]
        paths += [
            os.path.join(parent, name)
            for name in names
            if name.endswith(JOINED_SUFFIXES) and not name.startswith(("_", "."))
        ]
    refuse_tables(f"--data {folder}", {folder, *map(os.path.dirname, paths)})
    return sorted(paths)
