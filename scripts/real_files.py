"""Data files that libraries ship, read by the runner and by the format's own library: `real_files.py [FOLDER]`.

Downloads the packages that have them into the folder, or a temporary one, and installs nothing. Every array, column and
table of every file is either read as the library reads it, or refused with a message. Prints a Markdown table of the
kinds of files, and what is neither; ends with 1 where there is any. Needs the network; not part of CI.
"""

import argparse
import collections
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow.feather
import pyarrow.parquet
import scipy.io
import xarray
from astropy.io import fits
from astropy.table import Table
from PIL import Image

from runner.core.errors import RunnerError
from runner.data.rows import Ragged, named_types
from runner.data.tensors import as_batch
from runner.sources import ReadOptions, open_source

PACKAGES = (
    "astropy==8.0.2", "h5py==3.16.0", "matplotlib==3.11.2", "nibabel==5.4.2", "numpy==2.4.6", "pyarrow==26.0.1",
    "pydicom==3.0.2", "scanpy==1.11.5", "scikit-image==0.26.0", "scikit-learn==1.9.1", "scipy==1.17.1",
    "statsmodels==0.15.0", "tables==3.11.1", "xarray==2026.9.0",
)  # fmt: skip
MOST_OF_A_KIND = 40  # files
SUFFIXES = ("npy", "npz", "csv", "tsv", "txt", "parquet", "feather", "orc", "h5", "hdf5", "nc", "h5ad", "mat", "fits",
            "png", "jpg", "jpeg", "tif", "tiff", "gif", "bmp", "webp", "nii", "gz", "dcm", "xls", "xlsx", "dta", "json",
            "pkl")  # fmt: skip
IMAGES = ("png", "jpg", "jpeg", "tif", "tiff", "gif", "bmp", "webp")
Part = tuple[str, list[str], Any]  # what follows the path, columns, and what the library reads


def hdf5_parts(path: Path) -> Iterator[Part]:
    with h5py.File(path) as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in names:
            yield f"::{name}", [], file[name][()]


def mat_parts(path: Path) -> Iterator[Part]:
    try:
        for name, values in scipy.io.loadmat(path, appendmat=False).items():
            if not name.startswith("__"):
                yield f"::{name}", [], values
    except NotImplementedError:  # of version 7.3
        for place, columns, values in hdf5_parts(path):
            yield place, columns, values.T


def netcdf_parts(path: Path) -> Iterator[Part]:
    with xarray.open_dataset(path, decode_times=False, engine="netcdf4") as file:
        for name, variable in file.variables.items():
            yield f"::{name}", [], variable.values


def fits_parts(path: Path) -> Iterator[Part]:
    with fits.open(path) as file:
        for number, hdu in enumerate(file):
            if isinstance(hdu, fits.BinTableHDU) and not isinstance(hdu, fits.CompImageHDU):
                table = Table.read(hdu)
                for name in table.colnames:
                    values = table[name]
                    is_number = isinstance(values, np.ma.MaskedArray) and values.dtype.kind in "iuf"
                    yield f"::{number}", [name], values.astype("f8").filled(np.nan) if is_number else values
            elif hdu.data is not None:
                yield f"::{number}", [], np.array(hdu.data)


def table_parts(path: Path) -> Iterator[Part]:
    kind = path.suffix
    if kind in (".csv", ".tsv"):
        table = pd.read_csv(path, sep="\t" if kind == ".tsv" else ",", dtype=str, keep_default_na=False)
    else:
        read = pyarrow.parquet.read_table if kind == ".parquet" else pyarrow.feather.read_table
        table = read(path).to_pandas(ignore_metadata=True)
    for name in table.columns:
        yield "", [str(name)], table[name]


def other_parts(path: Path) -> Iterator[Part]:
    kind = path.suffix[1:]
    if kind == "npz":
        with np.load(path) as arrays:
            for name in arrays.files:
                yield f"::{name}", [], arrays[name]
    elif kind == "npy":
        yield "", [], np.load(path)
    elif kind == "txt":
        yield "", [], path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n").split("\n")
    else:
        yield "", [], None


PARTS = {"h5": hdf5_parts, "hdf5": hdf5_parts, "h5ad": hdf5_parts, "mat": mat_parts, "nc": netcdf_parts,
         "fits": fits_parts, "csv": table_parts, "tsv": table_parts, "parquet": table_parts,
         "feather": table_parts}  # fmt: skip


def kind_of(path: Path) -> str:
    """The kind of a file, by its suffix and its first bytes."""
    suffix, beginning = path.suffix[1:], path.read_bytes()[:128]
    if suffix == "nc":
        return "netCDF 3" if beginning.startswith(b"CDF") else "netCDF 4"
    if suffix == "mat":
        is_header = beginning.startswith(b"MATLAB")
        return "MATLAB 7.3" if beginning[124:128] == b"\x00\x02IM" else "MATLAB 5 to 7" if is_header else "MATLAB 4"
    if suffix == "h5":
        return "HDF5 of PyTables" if "tables" in path.parts else "HDF5"
    return {"jpeg": ".jpg", "tiff": ".tif", "hdf5": "HDF5"}.get(suffix, path.suffix)


def plain(value: Any) -> Any:
    """A value as Python has it, for comparisons."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return [plain(item) for item in value] if hasattr(value, "__len__") and not isinstance(value, str) else value


def are_equal(rows: Any, theirs: Any) -> bool:
    """Whether rows are what the library reads."""
    if isinstance(rows, dict):
        return all(are_equal(column, theirs[name]) for name, column in rows.items())
    if isinstance(rows, Ragged):
        ours = [row if isinstance(row, str) else row.tolist() for row in as_batch(rows)]
        wanted = [plain(row) for row in theirs]
        return ours == ["".join(row) if isinstance(row, list) and isinstance(mine, str) else row
                        for row, mine in zip(wanted, ours, strict=True)]  # fmt: skip
    theirs = np.asarray(theirs)
    if rows.dtype.names:
        return all(are_equal(rows[name], theirs[name]) for name in rows.dtype.names)
    if rows.dtype == bool or theirs.dtype == bool:
        lower = np.char.lower(theirs.astype(str)) == "true" if theirs.dtype.kind in "OTU" else theirs.astype(bool)
        return np.array_equal(rows, lower)
    if theirs.dtype.kind in "OTU":
        numbers = [int(row, 0) if isinstance(row, str) and rows.dtype.kind in "iu" else plain(row) for row in theirs]
        theirs = np.array(numbers, rows.dtype)
    return rows.shape == theirs.shape and np.array_equal(rows, theirs, equal_nan=rows.dtype.kind in "fc")


def image_is_equal(path: Path) -> bool | None:
    """Whether an image that is gray or RGB is read as Pillow reads it; None for other kinds, which are not compared."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, path.name).write_bytes(path.read_bytes())
        source = open_source(folder)
        rows: Any = source.read(0, 1)
    image = rows["image"] if named_types(source.row_type) else rows
    with Image.open(path) as theirs:
        if theirs.mode not in ("L", "RGB") or "transparency" in theirs.info or theirs.getexif().get(274, 1) != 1:
            return None
        return np.array_equal(image[0], np.moveaxis(np.array(theirs.convert("RGB")), -1, 0))


def outcomes(path: Path) -> Iterator[tuple[str, str]]:
    """What comes of each part of a file, and the message: equal, refused, not compared, or what is wrong."""
    if path.suffix[1:] in IMAGES:
        parts: list[Part] = [("", [], Image)]
    else:
        try:
            parts = list(PARTS.get(path.suffix[1:], other_parts)(path))
        except Exception as error:  # the library does not read it either
            parts = [("", [], error)]
    for place, columns, theirs in parts:
        what = f"{path.name}{place} {' '.join(columns)}"
        try:
            if theirs is Image:
                is_equal = image_is_equal(path)
            else:
                nulls = ReadOptions(null_is_nan=path.suffix in (".fits", ".parquet", ".feather"))
                source = open_source(f"{path}{place}", columns, options=nulls)
                rows = source.read(0, source.num_rows)
                is_equal = None if isinstance(theirs, Exception) else are_equal(rows, theirs)
        except RunnerError as error:
            yield ("refused" if error.exit_code in (64, 65) else "wrong exit code"), f"{what}: {error}"
        except Exception as error:
            yield "not caught", f"{what}: {error!r}"
        else:
            yield {None: "not compared", True: "equal", False: "DIFFERENT"}[is_equal], what


def compare(folder: Path) -> int:
    """Read all files in a folder, print the table, and return the number of parts that are wrong."""
    files = sorted(path for path in folder.rglob("*.*") if path.suffix[1:] in SUFFIXES and path.is_file())
    files = [path for path in files if path.stat().st_size and (path.suffix != ".txt" or "data" in str(path))]
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    wrong = 0
    for path in files:
        kind = kind_of(path)
        if counts[kind]["files"] >= MOST_OF_A_KIND:
            continue
        counts[kind]["files"] += 1
        for outcome, message in outcomes(path):
            counts[kind][outcome] += 1
            if outcome not in ("equal", "refused", "not compared"):
                wrong += 1
                print(f"{outcome}: {message}", file=sys.stderr)
    print(
        "| kind | files | arrays and columns read as by its library | refused with advice |\n| --- | --- | --- | --- |"
    )
    for kind, count in sorted(counts.items()):
        print(f"| {kind} | {count['files']} | {count['equal']} | {count['refused']} |")
    return wrong


def main() -> int:
    """Download the packages where they are not there, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="with the packages, if they are there already")
    given = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        folder = given or Path(temporary)
        if not any(folder.iterdir()):
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
            for package in PACKAGES:
                subprocess.run([*pip, package], check=True)
        return min(1, compare(folder))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
