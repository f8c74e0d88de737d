"""Rows of the arrays in a `.npz` file: stored ones are read range by range, compressed ones are kept in memory."""

import io
import threading
import zipfile

import numpy as np

from runner.core.checksum import as_bytes, checksum_of_text
from runner.core.errors import InputError, describe
from runner.core.text import byte_size, listed
from runner.data.rows import RowType
from runner.sources.arrays.named import Array, NamedSource
from runner.sources.arrays.npy import HEADER_BYTES, NpyArray, read_header
from runner.sources.base import DataSpec
from runner.sources.files import Stream, open_file, read_range

_SUFFIX = ".npy"
_KEPT_BYTES = 1 << 30  # the most that is decompressed into memory, of all arrays together
_READ_BYTES = 16 << 20
_LOCAL_HEADER_BYTES = 30  # of a zip member, before its name
_IS_ENCRYPTED = 1


class NpzSource(NamedSource):
    """A `.npz` file, or its URL: arrays by name, whose first axis is the rows.

    Raises:
        InputError: no such file or array, no .npz file, arrays with different numbers of rows, compressed arrays of
            more than 1 GiB together, or an array that `NpyArray` rejects.
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
        if {"format", "shape", "data"} <= infos.keys():
            raise InputError(
                f"{spec.what} is a sparse matrix of SciPy. Save it dense: numpy.save('d.npy', "
                "scipy.sparse.load_npz(PATH).toarray())"
            )
        self._members = {name: infos[name] for name in spec.choose(list(infos), word="array")}
        lock = threading.Lock()
        arrays = {name: self._open(archive, name, lock, spec.most_rows) for name in self._members}
        held = {name: array.held_bytes for name, array in arrays.items() if isinstance(array, _Compressed)}
        if sum(held.values()) > _KEPT_BYTES:
            raise InputError(
                f"{spec.what}: no part of a compressed array can be read alone, so each rank would hold "
                f"{listed(list(held))} in memory: {byte_size(sum(held.values()))} of at most {byte_size(_KEPT_BYTES)}. "
                "Save the file again with numpy.savez or as .npy, choose fewer arrays with --columns, or fewer rows "
                "with --limit"
            )
        super().__init__(spec.path, arrays)

    def digest(self) -> str:
        """Return a digest of the checksums that the file itself stores of its members."""
        members = [f"{name} {info.file_size} {info.CRC}" for name, info in self._members.items()]
        return checksum_of_text(" ".join(members))

    def stamp(self) -> str:
        return self._file.stamp()

    def _open(self, archive: zipfile.ZipFile, name: str, lock: threading.Lock, most_rows: int | None) -> Array:
        info = self._members[name]
        what = f"--data {self._file.path}::{name}"
        if info.flag_bits & _IS_ENCRYPTED:
            raise InputError(f"{what} is encrypted; save it again with numpy.savez")
        if info.compress_type != zipfile.ZIP_STORED:
            return _Compressed(archive, info, what, lock, most_rows)
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
    """A compressed array, decompressed on the first read of a row, up to the last row that is needed.

    Attributes:
        held_bytes: the memory that this takes.
    """

    def __init__(
        self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, what: str, lock: threading.Lock, most_rows: int | None
    ) -> None:
        self._archive = archive
        self._info = info
        self._what = what
        self._lock = lock
        try:
            with archive.open(info) as member:
                beginning = io.BytesIO(member.read(HEADER_BYTES))
            shape, self._is_column_major, self._stored_dtype = read_header(beginning, info.file_size, what)
        except InputError:
            raise
        except Exception as error:  # an unknown method, or a damaged beginning
            raise InputError(f"{what} cannot be read: {describe(error)}") from error
        self._offset = beginning.tell()
        self.num_rows = shape[0]
        self.row_type = RowType(shape[1:], self._stored_dtype.newbyteorder("="))
        self.row_bytes = self.row_type.row_bytes
        needs_all = self._is_column_major or most_rows is None
        self._num_held = self.num_rows if needs_all or most_rows is None else min(most_rows, self.num_rows)
        self.held_bytes = self._num_held * self.row_bytes
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
                member.read(self._offset)
                shape = (self._num_held, *self.row_type.shape)
                rows = np.empty(shape, self._stored_dtype, "F" if self._is_column_major else "C")
                left = memoryview(as_bytes(rows.T if self._is_column_major else rows))
                while left:
                    if not (content := member.read(min(len(left), _READ_BYTES))):
                        raise ValueError("fewer bytes than its header says")
                    left[: len(content)] = content
                    left = left[len(content) :]
                if self._num_held == self.num_rows and member.read(1):
                    raise ValueError("more bytes than its header says")
        except InputError as error:
            return error
        except Exception as error:  # from zipfile, or one of the decompression libraries
            return InputError(f"{self._what} cannot be decompressed: {describe(error)}")
        return rows.astype(self.row_type.dtype, order="C", copy=False)


def _is_array(info: zipfile.ZipInfo) -> bool:
    return info.filename.endswith(_SUFFIX)
