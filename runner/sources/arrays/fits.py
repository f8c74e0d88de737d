"""Rows of the images and tables in a FITS file, whose headers astropy reads."""

import io
import math
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from runner.core.errors import InputError, RunnerError, UsageError, describe
from runner.core.text import listed
from runner.data.rows import Column, RowType, name_rows
from runner.sources.arrays.fits_columns import make_column, turned_sign
from runner.sources.arrays.named import Array, ByChunks, NamedSource
from runner.sources.arrays.strided import Records, StridedRows
from runner.sources.base import DataSpec, check_decoded, check_dtype, no_such
from runner.sources.files import File, Stream, open_file

_TABLE = "BinTableHDU"
_ASCII = "TableHDU"
_COMPRESSED = "CompImageHDU"
_IMAGES = ("PrimaryHDU", "ImageHDU", _COMPRESSED)
_STORED = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}  # by BITPIX
_READ_AHEAD = 64 << 10  # bytes
_BINARY = "Write it as a binary one: astropy.table.Table.read(OLD, hdu=NAME).write('d.fits')"


class FitsSource(NamedSource):
    """A FITS file: the rows of a binary table, or an image along its first axis, which is NAXIS in reverse.

    Raises:
        UsageError: columns are chosen of an image.
        InputError: no such file, extension or column, another or a damaged file, several extensions with data and none
            chosen, an extension or a column of a kind without rows.
    """

    def __init__(self, spec: DataSpec) -> None:
        self._file = open_file(spec.path)
        self._chunk_rows = 1
        hdus = _open(spec, self._file)
        try:
            arrays = self._arrays_of(hdus, spec)
        except RunnerError:
            raise
        except Exception as error:  # a damaged header raises one of many exception types
            raise InputError(f"{spec.what} has a damaged header: {describe(error)}") from error
        super().__init__(spec.path, arrays)

    def digest(self) -> str:
        return self.digest_of_samples(self._chunk_rows)

    def stamp(self) -> str:
        return self._file.stamp()

    def _arrays_of(self, hdus: Any, spec: DataSpec) -> dict[str, Array]:
        number = _chosen(hdus, spec)
        hdu = hdus[number]
        what = f"{spec.what}::{spec.inner or number}"
        kind = type(hdu).__name__
        if kind != _TABLE and (kind not in _IMAGES or not hdu.shape):
            advice = f". {_BINARY.replace('NAME', str(number))}" if kind == _ASCII else ""
            raise InputError(f"{what} is of the kind {kind}, without rows; images and binary tables have some{advice}")
        self._check_complete(hdu, kind, what)
        if kind == _TABLE:
            return self._columns(hdu, spec, what)
        if spec.columns or spec.keep:
            raise UsageError(f"{what} is an image, which has no columns to choose")
        return {"": self._image(hdu, what)}

    def _columns(self, hdu: Any, spec: DataSpec, what: str) -> dict[str, Array]:
        known = list(hdu.columns.names)
        names = list(dict.fromkeys([*(spec.columns or known), *spec.keep]))
        for name in names:
            if name not in known:
                raise no_such(what, name, known)
        stride, width = int(hdu.header["NAXIS1"]), hdu.columns.dtype.itemsize
        if stride != width:
            raise InputError(f"{what} has a damaged header: rows are of {stride} bytes, and their columns of {width}")
        records = Records(self._file, hdu.fileinfo()["datLoc"], stride)
        return {name: make_column(hdu, records, name, spec.options, what) for name in names}

    def _image(self, hdu: Any, what: str) -> Array:
        image = _Image(hdu, what)
        if type(hdu).__name__ != _COMPRESSED:
            return _PlainImage(hdu, self._file, image.row_type)
        self._chunk_rows = image.chunk_rows
        return ByChunks(image, image.chunk_rows, threading.Lock(), 1)

    def _check_complete(self, hdu: Any, kind: str, what: str) -> None:
        if kind == _COMPRESSED:  # decoding notices it
            return
        end = hdu.fileinfo()["datLoc"] + hdu.size
        if end > self._file.size:
            raise InputError(f"{what} is truncated: it should end at byte {end}, the file has {self._file.size}")


class _Image:
    """An image, read by astropy: scaled, with NaN where it is blank."""

    def __init__(self, hdu: Any, what: str) -> None:
        self._section = hdu.section
        self._what = what
        tile: Sequence[int] = getattr(hdu, "tile_shape", (1,))
        self.chunk_rows = int(tile[0])
        self.num_rows: int = hdu.shape[0]
        try:
            row = self._section[0:1] if self.num_rows else np.empty((0, *hdu.shape[1:]), np.float32)
        except Exception as error:  # a damaged file raises one of many exception types
            raise InputError(f"{what} cannot be read: {describe(error)}") from error
        check_dtype(row.dtype, what)
        self.row_type = RowType(row.shape[1:], row.dtype.newbyteorder("="))
        self.row_bytes = self.row_type.row_bytes
        check_decoded(self.chunk_rows * self.row_bytes, what, "tiles", "Compress it again with smaller ones")

    def read(self, start: int, stop: int) -> Column:
        try:
            rows = np.ascontiguousarray(self._section[start:stop])
        except Exception as error:
            bad = name_rows(range(start, stop))
            raise InputError(f"{self._what}: {bad} cannot be read: {describe(error)}") from error
        if rows.shape != (stop - start, *self.row_type.shape):
            raise InputError(f"{self._what}: {name_rows(range(start, stop))} are not there: the file is truncated")
        return rows.astype(self.row_type.dtype)


class _PlainImage:
    """An image that is not compressed, read in place.

    Args:
        hdu: the image.
        file: its file.
        row_type: type of its rows as astropy scales them.
    """

    def __init__(self, hdu: Any, file: File, row_type: RowType) -> None:
        header = hdu.header
        stored = np.dtype(_STORED[header["BITPIX"]])
        self.num_rows: int = hdu.shape[0]
        self.row_type = row_type
        self.row_bytes = row_type.row_bytes
        records = Records(file, hdu.fileinfo()["datLoc"], math.prod(row_type.shape) * stored.itemsize)
        self._rows = StridedRows(records, 0, row_type.shape, stored)
        self._scale = header.get("BSCALE", 1)
        self._zero = header.get("BZERO", 0)
        self._blank = header.get("BLANK") if stored.kind in "iu" else None

    def read(self, start: int, stop: int) -> Column:
        values = self._rows.read(start, stop)
        dtype = self.row_type.dtype
        if dtype.kind in "iu":
            turned = turned_sign(values, self._zero)
            return values if turned is None else turned
        blank = values == self._blank if self._blank is not None else None
        scaled = values.astype(dtype, copy=False)
        if self._scale != 1:
            scaled *= self._scale
        if self._zero != 0:
            scaled += self._zero
        if blank is not None:
            scaled[blank] = np.nan
        return scaled


def _open(spec: DataSpec, file: File) -> Any:
    """Return the extensions of a file, all headers read."""
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)  # a truncated file is told better
            hdus = fits.open(io.BufferedReader(Stream(file), _READ_AHEAD), memmap=False)
            len(hdus)
    except Exception as error:
        raise InputError(f"{spec.what} is not a FITS file, or is damaged: {describe(error)}") from error
    return hdus


def _chosen(hdus: Any, spec: DataSpec) -> int:
    """Return the number of the extension with the rows."""
    names = [f"{number}: {hdu.name or 'no name'}" for number, hdu in enumerate(hdus)]
    if not spec.inner:
        filled = [number for number, hdu in enumerate(hdus) if hdu.size]
        if len(filled) == 1:
            return filled[0]
        if not filled:
            raise InputError(f"{spec.what} holds no data")
        raise InputError(
            f"{spec.what} has data in several extensions: {listed([names[number] for number in filled])}. Choose one "
            f"by its number or name: {spec.path}::{filled[0]}"
        )
    name, _, version = spec.inner.rpartition(",")
    try:
        if spec.inner.isdecimal() and int(spec.inner) < len(hdus):
            return int(spec.inner)
        return int(hdus.index_of((name, int(version)) if name and version.isdecimal() else spec.inner))
    except KeyError:
        raise no_such(spec.what, spec.inner, names, "extension") from None
