"""Rows of a `.npy` file, read range by range and never whole."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import xxhash

from runner.checksum import as_bytes
from runner.errors import InputError, describe
from runner.rows import RowType
from runner.sources import check_dtype, refuse_names
from runner.sources.files import is_url, open_file, read_range

_HEADER_BYTES = 64 << 10  # more than any header of numbers takes
_WHOLE_BYTES = 64 << 20  # a file up to this size is digested whole
_SAMPLES, _SAMPLE_BYTES = 256, 64 << 10  # a larger one by this many samples of this size


class NpySource:
    """A `.npy` file of any version, or its URL; its first axis is the rows.

    Raises:
        InputError: no such file, not a .npy file, fewer bytes than its header says, a dtype that torch cannot hold.
    """

    def __init__(self, path: str, inner: str = "", columns: Sequence[str] = (), keep: Sequence[str] = ()) -> None:
        refuse_names(path, inner, (*columns, *keep))
        self._path, self._file = path, open_file(path)
        shape, fortran_order, dtype = self._read_header()
        check_dtype(dtype, f"--data {path}")
        if not shape:
            raise InputError(f"--data {path} is a single value of shape (); its first axis must be the rows")
        self.num_rows, self._stored_dtype = shape[0], dtype
        self.row_type = RowType(shape[1:], dtype.newbyteorder("="))
        self.row_bytes = self.row_type.row_bytes
        wanted = self._offset + self.num_rows * self.row_bytes
        if self._file.size < wanted:
            raise InputError(
                f"--data {path} is truncated: its header promises {wanted} bytes for shape {shape} of {dtype}, "
                f"it has {self._file.size}"
            )
        self._column_major = None
        if fortran_order and len(shape) > 1 and all(shape):
            if is_url(path):
                raise InputError(f"--data {path} is in column-major order; save it again with numpy.ascontiguousarray")
            self._column_major = np.load(path, mmap_mode="r")

    def read(self, start: int, stop: int) -> np.ndarray:
        if self._column_major is not None:  # the one layout in which the bytes of a row do not lie together
            return np.array(self._column_major[start:stop], dtype=self.row_type.dtype, order="C")
        rows = np.empty((stop - start, *self.row_type.shape), self._stored_dtype)
        self._file.read_into(as_bytes(rows), self._offset + start * self.row_bytes)
        return rows.astype(self.row_type.dtype, copy=False)

    def digest(self) -> str:
        size = self._file.size
        state = xxhash.xxh3_128(str(size).encode())
        if size <= _WHOLE_BYTES:
            positions, length = [0], size
        else:  # evenly from the first byte to the last
            length = _SAMPLE_BYTES
            positions = [(size - length) * index // (_SAMPLES - 1) for index in range(_SAMPLES)]
        buffer = memoryview(bytearray(length))
        for position in positions:
            self._file.read_into(buffer, position)
            state.update(buffer)
        return f"xxh3:{state.hexdigest()}"

    def stamp(self) -> str:
        return self._file.stamp()

    def _read_header(self) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        header_of = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
            (3, 0): np.lib.format.read_array_header_2_0,  # differs from 2.0 in the text's encoding alone
        }
        beginning = io.BytesIO(read_range(self._file, 0, min(self._file.size, _HEADER_BYTES)))
        try:
            version = np.lib.format.read_magic(beginning)
            if version not in header_of:
                raise ValueError(f"version {version} of the format is not known")
            header = header_of[version](beginning)
        except Exception as error:
            raise InputError(f"--data {self._path} is not a .npy file: {describe(error)}") from error
        self._offset = beginning.tell()
        return header
