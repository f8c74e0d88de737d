"""Files of a folder that its rows do not come from, and folders whose files are not what they seem."""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Sequence

from runner.core.errors import InputError
from runner.core.text import listed, plural
from runner.core.urls import WEB, is_url, storage_of

_PARQUET = b"PAR1"
_MOST_FOLDERS = 16
_ADVICE = "Write the table's present rows to a file first, such as with"
_LOGS = {
    "_delta_log": (
        "a Delta table",
        "pyarrow.parquet.write_table(deltalake.DeltaTable(FOLDER).to_pyarrow_table(), 'rows.parquet'). A local table "
        "can be given by its folder, FOLDER",
    ),
    "metadata/*.metadata.json": (
        "an Iceberg table",
        "pyarrow.parquet.write_table(catalog.load_table(NAME).scan().to_arrow(), 'rows.parquet') of pyiceberg",
    ),
    ".hoodie": ("a Hudi table", "Spark: spark.read.format('hudi').load(FOLDER).write.parquet('rows')"),
    "_spark_metadata": (
        "the output of a stream of Spark",
        "Spark: spark.read.parquet(FOLDER).write.parquet('rows')",
    ),
    "_versions/*.manifest": (
        "a Lance data set",
        "pyarrow.parquet.write_table(lance.dataset(FOLDER).to_table(), 'rows.parquet')",
    ),
}


def refuse_tables(what: str, folders: Iterable[str]) -> None:
    """Raise InputError where a folder, or one that it lies in, is a table whose log says which files count.

    Args:
        what: the data set, for messages.
        folders: local folders, or URLs of some.
    """
    seen: set[str] = set()
    for folder in sorted(folders)[:_MOST_FOLDERS]:  # those of one table lie in one folder, which each of them finds
        for place in _with_those_above(folder):
            if place in seen:
                break
            seen.add(place)
            for log, (kind, way) in _LOGS.items():
                if _has(place, log):
                    raise InputError(
                        f"{what} is {kind}: its files also hold rows that were deleted or replaced, and {log} says "
                        f"which count. {_ADVICE} {way}"
                    )


def note_on_others(folder: str, files: Sequence[str]) -> str:
    """Return a note on the files in a folder and below that are left out; empty where there are none.

    Args:
        folder: the folder.
        files: paths of those that are read.
    """
    others = Counter(_suffix(path) for path in set(_visible(folder)) - {os.path.normpath(path) for path in files})
    if not others:
        return ""
    are_left = "is left out, which is" if others.total() == 1 else "are left out, which are"
    return f"--data {folder}: {plural(others.total(), 'file')} {are_left} {_counted(others)}"


def describe_files(folder: str) -> str:
    """Return what a folder holds, and how to give it as data, in words; empty where it holds nothing."""
    paths = sorted(_visible(folder))
    suffixes = Counter(_suffix(path) for path in paths)
    if not suffixes:
        return ""
    (suffix, _), *_ = suffixes.most_common(1)
    example = next(path for path in paths if _suffix(path) == suffix)
    if not os.path.splitext(example)[1] and _begins_with(example, _PARQUET):
        advice = f". They are Parquet: rename them to end in .parquet, such as {example}.parquet"
    else:
        advice = f". For rows of files give a pattern, such as '{os.path.join(folder, '**', '*' + suffix)}'"
    return f"; it holds {_counted(suffixes)}{advice if len(suffix) > 1 or 'Parquet' in advice else ''}"


def _visible(folder: str) -> Iterable[str]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(("_", "."))]
        yield from (os.path.normpath(os.path.join(parent, name)) for name in names if not name.startswith(("_", ".")))


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _counted(suffixes: Counter[str]) -> str:
    return listed([f"{suffix or 'without a suffix'} ({count:,})" for suffix, count in suffixes.most_common()])


def _begins_with(path: str, magic: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic


def _with_those_above(folder: str) -> list[str]:
    """Return a folder and those that it lies in, from the inside out; a few for URLs, where each costs a request."""
    if folder.startswith(WEB):
        return []
    if is_url(folder):
        scheme, _, path = folder.partition("://")
        parts = path.rstrip("/").split("/")
        return [f"{scheme}://{'/'.join(parts[:length])}" for length in range(len(parts), max(1, len(parts) - 3), -1)]
    above = [os.path.abspath(folder)]
    while (parent := os.path.dirname(above[-1])) != above[-1]:
        above.append(parent)
    return above


def _has(folder: str, log: str) -> bool:
    if not is_url(folder):
        return bool(glob.glob(os.path.join(glob.escape(folder), log)))
    storage, name = storage_of(folder, "--data")
    try:
        return bool(storage.glob(f"{name}/{log}") if "*" in log else storage.exists(f"{name}/{log}"))
    except Exception:  # a storage without listings has no such tables
        return False
