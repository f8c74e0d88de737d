"""HDF5 files opened by h5py: the data sets in them, and the compression filters that these need."""

import contextlib
import io
from typing import Any

from runner.core.errors import InputError, UsageError, describe
from runner.core.urls import is_url
from runner.sources.base import no_such
from runner.sources.files import File, Stream, read_range

_READ_AHEAD = 1 << 20  # bytes, for files behind a URL
_LZO = 305
_NETCDF_3 = b"CDF"
_BARE_DIMENSION = b"This is a netCDF dimension but not a netCDF variable"  # of the standard of netCDF-4


def open_hdf5(raw: File) -> Any:
    """Open an HDF5 file for reading.

    Raises:
        InputError: it is another or a damaged file.
    """
    import h5py

    if read_range(raw, 0, min(raw.size, len(_NETCDF_3))) == _NETCDF_3:
        raise InputError(
            f"--data {raw.path} is netCDF of version 3, which is read from local files that end in .nc: copy or rename "
            "it to be one"
        )
    try:
        if is_url(raw.path):
            return h5py.File(io.BufferedReader(Stream(raw), _READ_AHEAD), "r")
        with contextlib.suppress(OSError):
            # without a lock: a parallel file system may have no locks, and a writing program has its own
            return h5py.File(raw.path, "r", locking=False)
        return h5py.File(raw.path, "r")  # where this process already has it open with locks
    except OSError as error:
        raise InputError(f"--data {raw.path} is not an HDF5 file, or is damaged: {describe(error)}") from error


def datasets_in(group: Any) -> list[str]:
    """Return the paths of all data sets, sorted."""
    import h5py

    names: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not _is_bare_dimension(item):
            names.append(name)

    group.visititems(visit)
    return sorted(names)


def _is_bare_dimension(dataset: Any) -> bool:
    """Return whether a data set only stands for a dimension of netCDF, without values."""
    name = dataset.attrs.get("NAME")
    return isinstance(name, bytes) and name.startswith(_BARE_DIMENSION)


def find_dataset(file: Any, path: str, name: str) -> Any:
    """Return the data set of a path in the file."""
    import h5py

    try:
        dataset = file[name]
    except KeyError:
        raise no_such(f"--data {path}", name, datasets_in(file), "dataset") from None
    except Exception as error:
        raise InputError(f"--data {path}::{name} cannot be opened: {describe(error)}") from error
    if not isinstance(dataset, h5py.Dataset):
        raise InputError(
            f"--data {path}::{name} is a group, not a dataset; the file has {', '.join(datasets_in(file)) or 'none'}"
        )
    return dataset


def check_filters(dataset: Any, what: str) -> None:
    """Raise UsageError where this HDF5 lacks a compression filter of the data set."""
    import h5py

    created = dataset.id.get_create_plist()
    filters = [created.get_filter(index) for index in range(created.get_nfilters())]
    for code, _, _, label in filters:
        if not h5py.h5z.filter_avail(code):
            with contextlib.suppress(ImportError):
                import hdf5plugin  # noqa: F401 - registers more filters
        if not h5py.h5z.filter_avail(code):
            called = label.decode(errors="replace") or "no name"
            way = "save it again with gzip, as hdf5plugin lacks it" if code == _LZO else "pip install hdf5plugin"
            raise UsageError(
                f"{what} is compressed with filter {code} ({called}), which this HDF5 does not have: {way}, or set "
                "HDF5_PLUGIN_PATH"
            )
