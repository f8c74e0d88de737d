"""Rows of a `.npy` file, read range by range and never whole.

Plain reads instead of a memory map: a file that shrinks while it is read gives an error here and not a SIGBUS, a
parallel file system gets large requests instead of page faults, and no file page counts as this process's memory.
"""

import os
import weakref
from typing import Any

import numpy as np
import xxhash

from runner.checksum import as_bytes
from runner.errors import InputError, describe
from runner.sources import check_dtype, file_stamp

_WHOLE_BYTES = 64 << 20  # a file up to this size is digested whole
_SAMPLES, _SAMPLE_BYTES = 256, 64 << 10  # a larger one by this many samples of this size


class NpySource:
    """A `.npy` file of any version; its first axis is the rows.

    Raises:
        InputError: no such file, not a .npy file, fewer bytes than its header says, a dtype that torch cannot hold.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._fd = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise InputError(f"--data {path}: {error.strerror}") from error
        weakref.finalize(self, os.close, self._fd)
        shape, fortran_order, dtype = self._read_header()
        check_dtype(dtype, f"--data {path}")
        if not shape:
            raise InputError(f"--data {path} is a single value of shape (); its first axis must be the rows")
        self.num_rows, self.row_shape, self._stored_dtype = shape[0], shape[1:], dtype
        self.dtype = dtype.newbyteorder("=")
        self.row_bytes = dtype.itemsize * int(np.prod(self.row_shape, dtype=np.int64))
        self._size = os.fstat(self._fd).st_size
        wanted = self._offset + self.num_rows * self.row_bytes
        if self._size < wanted:
            raise InputError(
                f"--data {path} is truncated: its header promises {wanted} bytes for shape {shape} of {dtype}, "
                f"it has {self._size}"
            )
        self._column_major = np.load(path, mmap_mode="r") if fortran_order and len(shape) > 1 and all(shape) else None

    def read(self, start: int, stop: int) -> np.ndarray:
        if self._column_major is not None:  # the one layout in which the bytes of a row do not lie together
            return np.array(self._column_major[start:stop], dtype=self.dtype, order="C")
        rows = np.empty((stop - start, *self.row_shape), self._stored_dtype)
        self._read_into(as_bytes(rows), self._offset + start * self.row_bytes)
        return rows.astype(self.dtype, copy=False)

    def digest(self) -> str:
        state = xxhash.xxh3_128(str(self._size).encode())
        if self._size <= _WHOLE_BYTES:
            positions, length = [0], self._size
        else:  # evenly from the first byte to the last
            length = _SAMPLE_BYTES
            positions = [(self._size - length) * index // (_SAMPLES - 1) for index in range(_SAMPLES)]
        buffer = memoryview(bytearray(length))
        for position in positions:
            self._read_into(buffer, position)
            state.update(buffer)
        return f"xxh3:{state.hexdigest()}"

    def stamp(self) -> str:
        return file_stamp(self._path)

    def _read_header(self) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        header_of = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
            (3, 0): np.lib.format.read_array_header_2_0,  # differs from 2.0 in the text's encoding alone
        }
        with os.fdopen(os.dup(self._fd), "rb") as file:
            try:
                version = np.lib.format.read_magic(file)
                if version not in header_of:
                    raise ValueError(f"version {version} of the format is not known")
                header = header_of[version](file)
            except Exception as error:
                raise InputError(f"--data {self._path} is not a .npy file: {describe(error)}") from error
            self._offset = file.tell()
        return header

    def _read_into(self, buffer: memoryview, position: int) -> None:
        while buffer:
            try:
                count = os.preadv(self._fd, [buffer], position)
            except OSError as error:
                raise InputError(f"--data {self._path}: reading at byte {position} failed: {error}") from error
            if not count:
                raise InputError(f"--data {self._path} has become shorter while it was read (byte {position})")
            buffer, position = buffer[count:], position + count
