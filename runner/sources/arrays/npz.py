"""Rows of the arrays in a `.npz` file: stored ones are read range by range, compressed ones are kept in memory."""

import io
import threading
import zipfile

import numpy as np

from runner.core.checksum import checksum_of_text
from runner.core.errors import InputError, describe
from runner.core.text import byte_size
from runner.data.rows import RowType
from runner.sources.arrays.named import Array, NamedSource
from runner.sources.arrays.npy import NpyArray, read_header
from runner.sources.base import DataSpec
from runner.sources.files import Stream, open_file, read_range

_SUFFIX = ".npy"
_KEPT_BYTES = 1 << 30  # an array of this size or more is not decompressed into memory
_LOCAL_HEADER_BYTES = 30  # of a zip member, before its name
_IS_ENCRYPTED = 1


class NpzSource(NamedSource):
    """A `.npz` file, or its URL: arrays by name, whose first axis is the rows.

    Raises:
        InputError: no such file or array, no .npz file, arrays with different numbers of rows, a compressed array of
            1 GiB or more, or an array that `NpyArray` rejects.
    """

    def __init__(self, spec: DataSpec) -> None:
        self._file = open_file(spec.path)
        try:
            archive = zipfile.ZipFile(io.BufferedReader(Stream(self._file)))
        except InputError:
            raise
        except Exception as error:  # a damaged directory raises one of many exception types
            raise InputError(f"{spec.what} is not a .npz file: {describe(error)}") from error
        infos = {info.filename.removesuffix(_SUFFIX): info for info in archive.infolist() if _is_array(info)}
        if not infos:
            raise InputError(f"{spec.what} holds no arrays")
        self._members = {name: infos[name] for name in spec.choose(list(infos), word="array")}
        lock = threading.Lock()
        super().__init__(spec.path, {name: self._open(archive, name, lock) for name in self._members})

    def digest(self) -> str:
        """Return a digest of the checksums that the file itself stores of its members."""
        members = [f"{name} {info.file_size} {info.CRC}" for name, info in self._members.items()]
        return checksum_of_text(" ".join(members))

    def stamp(self) -> str:
        return self._file.stamp()

    def _open(self, archive: zipfile.ZipFile, name: str, lock: threading.Lock) -> Array:
        info = self._members[name]
        what = f"--data {self._file.path}::{name}"
        if info.flag_bits & _IS_ENCRYPTED:
            raise InputError(f"{what} is encrypted; save it again with numpy.savez")
        if info.compress_type != zipfile.ZIP_STORED:
            return _Compressed(archive, info, what, lock)
        # the lengths in front of the values count; those in the archive's directory may differ
        lengths = read_range(
            self._file, info.header_offset + _LOCAL_HEADER_BYTES - 4, info.header_offset + _LOCAL_HEADER_BYTES
        )
        begin = info.header_offset + _LOCAL_HEADER_BYTES
        begin += int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
        end = begin + info.file_size
        if end > self._file.size:
            raise InputError(f"{what} is truncated: it should end at byte {end}, the file has {self._file.size}")
        return NpyArray(self._file, begin, end, what)


class _Compressed:
    """A compressed array, which is decompressed completely on the first read of a row."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, what: str, lock: threading.Lock) -> None:
        self._archive = archive
        self._info = info
        self._what = what
        self._lock = lock
        if info.file_size >= _KEPT_BYTES:
            raise InputError(
                f"{what} is compressed, so that no part of it can be read alone, and has {byte_size(info.file_size)}. "
                "Save it with numpy.savez, or as .npy"
            )
        try:
            with archive.open(info) as member:
                shape, _, dtype = read_header(member, info.file_size, what)
        except InputError:
            raise
        except Exception as error:  # an unknown method, or a damaged beginning
            raise InputError(f"{what} cannot be read: {describe(error)}") from error
        self.num_rows = shape[0]
        self.row_type = RowType(shape[1:], dtype.newbyteorder("="))
        self.row_bytes = self.row_type.row_bytes
        self._rows: np.ndarray | InputError | None = None

    def read(self, start: int, stop: int) -> np.ndarray:
        with self._lock:
            if self._rows is None:
                self._rows = self._decompress()
        if isinstance(self._rows, InputError):  # not tried again: it would take as long for every row
            raise InputError(self._rows.message)
        return self._rows[start:stop].copy()

    def _decompress(self) -> np.ndarray | InputError:
        try:
            with self._archive.open(self._info) as member:
                rows: np.ndarray = np.lib.format.read_array(member, allow_pickle=False)
                if member.read(1):
                    raise ValueError("more bytes than its header says")
        except InputError as error:
            return error
        except Exception as error:  # from zipfile, or one of the decompression libraries
            return InputError(f"{self._what} cannot be decompressed: {describe(error)}")
        return rows.astype(self.row_type.dtype, order="C", copy=False)


def _is_array(info: zipfile.ZipInfo) -> bool:
    return info.filename.endswith(_SUFFIX)
