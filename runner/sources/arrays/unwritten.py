"""Parts of arrays that were never written, or are gone: HDF5 and Zarr read them as fill values, without a word."""

import contextlib
import math
import os
from collections.abc import Iterator
from typing import Any

from runner.core.errors import InputError
from runner.core.text import plural
from runner.core.urls import is_url
from runner.host.environment import value_of


def note_of_chunks(written: int, shape: tuple[int, ...], chunks: tuple[int, ...], fill: Any, what: str) -> str:
    """Return a note on chunks that are not there; empty where all are.

    Args:
        written: number of chunks that are there.
        shape, chunks: shape of the array, and of a chunk.
        fill: what the others are read as.
        what: the array, for messages.
    """
    total = math.prod(math.ceil(length / chunk) for length, chunk in zip(shape, chunks, strict=True))
    if written >= total:
        return ""
    return (
        f"{what}: {total - written:,} of {plural(total, 'chunk')} are not there, and are read as the fill value, "
        f"{fill}. Nothing is wrong where that is what was written; otherwise the array is incomplete"
    )


def note_on_hdf5(dataset: Any, what: str) -> str:
    """Return a note on the parts of an HDF5 data set that were never written; empty where there are none."""
    if dataset.is_virtual or not dataset.size or dataset.external:
        return ""
    if dataset.chunks:
        return note_of_chunks(dataset.id.get_num_chunks(), dataset.shape, dataset.chunks, dataset.fillvalue, what)
    if dataset.id.get_storage_size():
        return ""
    return f"{what} was never written, and is read as its fill value, {dataset.fillvalue}"


def files_of_virtual(dataset: Any, path: str, what: str) -> list[str]:
    """Return the files that the parts of a virtual HDF5 data set lie in, besides its own.

    Raises:
        InputError: one is not there, or lacks the part: HDF5 would read fill values.
    """
    if not dataset.is_virtual:
        return []
    if is_url(path):
        raise InputError(f"{what} is a virtual dataset, whose parts lie in other files: copy all of them to a folder")
    files = set()
    for source in dataset.virtual_sources():
        if source.file_name == "." or "%" in source.file_name:  # the same file; a series of any number of files
            continue
        found = next(filter(os.path.isfile, _places(source.file_name, path)), None)
        if found is None:
            raise InputError(
                f"{what} is a virtual dataset, and {source.file_name}, which holds a part of it, is not there. HDF5 "
                "would read its fill value instead: put the file back"
            )
        if not _has(found, source.dset_name):
            raise InputError(f"{what} is a virtual dataset, and {found} has no {source.dset_name}, a part of it")
        files.add(found)
    return sorted(files)


def _places(name: str, path: str) -> Iterator[str]:
    """Yield the places where HDF5 looks for a file of a virtual data set."""
    folder = os.path.dirname(os.path.abspath(path))
    if prefix := value_of("HDF5_VDS_PREFIX"):
        yield os.path.join(prefix.replace("${ORIGIN}", folder), name)
    yield os.path.join(folder, name)
    yield name
    yield os.path.join(folder, os.path.basename(name))


def _has(path: str, name: str) -> bool:
    import h5py

    for options in ({"locking": False}, {}):  # this process may have it open with locks, or without
        with contextlib.suppress(OSError), h5py.File(path, "r", **options) as file:
            return name in file
    return False
