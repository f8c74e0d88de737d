"""Rows of a `.npy` file, read range by range and never as a whole."""

import io
from typing import IO, Any

import numpy as np

from runner.core.checksum import as_bytes
from runner.core.errors import InputError, describe
from runner.core.urls import is_url
from runner.data.rows import RowType
from runner.sources.base import DataSpec, check_dtype
from runner.sources.files import File, LocalFile, open_file, read_range, sampled_checksum

HEADER_BYTES = 64 << 10  # larger than any header of an array of numbers


class NpyArray:
    """An array in `.npy` format within a range of a file; its first axis is the rows.

    Args:
        file: the file.
        begin, end: byte range of the array in the file.
        what: the data set, for messages.

    Raises:
        InputError: the format is another, there are fewer bytes than the header says, or torch cannot hold the dtype.
    """

    def __init__(self, file: File, begin: int, end: int, what: str) -> None:
        self._file = file
        beginning = io.BytesIO(read_range(file, begin, min(end, begin + HEADER_BYTES)))
        shape, fortran_order, dtype = read_header(beginning, end - begin, what)
        self._offset = begin + beginning.tell()
        self.num_rows = shape[0]
        self._stored_dtype = dtype
        self.row_type = RowType(shape[1:], dtype.newbyteorder("="))
        self.row_bytes = self.row_type.row_bytes
        self._column_major = None
        if fortran_order and len(shape) > 1 and all(shape):
            if is_url(file.path):
                raise InputError(f"{what} is in column-major order; save it again with numpy.ascontiguousarray")
            self._column_major = np.memmap(file.path, dtype, "r", self._offset, shape, "F")

    def read(self, start: int, stop: int) -> np.ndarray:
        if self._column_major is not None:  # the one layout in which a row's bytes are not contiguous
            assert isinstance(self._file, LocalFile)
            self._file.check_length()
            return np.array(self._column_major[start:stop], dtype=self.row_type.dtype, order="C")
        rows = np.empty((stop - start, *self.row_type.shape), self._stored_dtype)
        self._file.read_into(as_bytes(rows), self._offset + start * self.row_bytes)
        return rows.astype(self.row_type.dtype, copy=False)


class NpySource(NpyArray):
    """A `.npy` file of any version, or its URL; its first axis is the rows.

    Raises:
        InputError: no such file, not a .npy file, fewer bytes than its header says, a dtype that torch cannot hold.
    """

    def __init__(self, spec: DataSpec) -> None:
        spec.refuse_names()
        file = open_file(spec.path)
        super().__init__(file, 0, file.size, spec.what)

    def digest(self) -> str:
        return sampled_checksum(self._file)

    def stamp(self) -> str:
        return self._file.stamp()


def read_header(file: IO[bytes], size: int, what: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an array whose rows can be read.

    Args:
        file: at its beginning; afterwards at the first byte of the values.
        size: bytes of header and values.
        what: the data set, for messages.

    Returns:
        The shape, of at least one axis; whether the order is column-major; and the dtype.

    Raises:
        InputError: see `NpyArray`.
    """
    header_of = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
        (3, 0): np.lib.format.read_array_header_2_0,  # differs from 2.0 only in the encoding of the text
    }
    try:
        version = np.lib.format.read_magic(file)
        if version not in header_of:
            raise ValueError(f"version {version} of the format is not known")
        shape, fortran_order, dtype = header_of[version](file)
    except Exception as error:
        raise InputError(f"{what} is not a .npy file: {describe(error)}") from error
    check_dtype(dtype, what)
    if not shape:
        raise InputError(f"{what} is a single value of shape (); its first axis must be the rows")
    wanted = file.tell() + shape[0] * RowType(shape[1:], dtype).row_bytes
    if size < wanted:
        raise InputError(
            f"{what} is truncated: its header promises {wanted} bytes for shape {shape} of {dtype}, it has {size}"
        )
    return shape, fortran_order, dtype
