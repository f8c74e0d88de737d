"""Rows of the variables in a MATLAB file of version 7.3, which is HDF5 with all axes in reverse."""

import math
import threading
from typing import Any

import numpy as np

from runner.core.errors import InputError, describe
from runner.data.rows import RAGGED, TEXT, Column, RowType, name_rows, ragged_text
from runner.sources.arrays.hdf5_file import check_filters, datasets_in, open_hdf5
from runner.sources.arrays.matlab import check_class, notes_on_vectors, the_only_of
from runner.sources.arrays.named import ByChunks, NamedSource
from runner.sources.base import DataSpec, check_decoded, check_dtype, no_such
from runner.sources.files import LocalFile, read_range

_CLASS = "MATLAB_class"
_EMPTY = "MATLAB_empty"
_SPARSE = "MATLAB_sparse"
_HIDDEN = "#"  # begins the names of what variables refer to
_COMPLEX = ("real", "imag")


class Mat73Source(NamedSource):
    """A MATLAB file of version 7.3: variables, and fields of structs as `STRUCT.FIELD`, along MATLAB's first axis.

    Raises:
        UsageError: the compression filter of a variable is missing.
        InputError: no such file or variable, no such file of MATLAB, several variables and none chosen, variables with
            different numbers of rows, or of a class without rows.
    """

    def __init__(self, spec: DataSpec) -> None:
        self._file = LocalFile(spec.path)
        root = open_hdf5(self._file)
        known = [name.replace("/", ".") for name in datasets_in(root) if not name.startswith(_HIDDEN)]
        known += [name for name in root if not name.startswith(_HIDDEN) and name not in known]
        names = spec.names(lambda: the_only_of(spec, [name for name in known if "." not in name]))
        lock = threading.Lock()
        arrays = {}
        self._chunk_rows = 1
        for name in names:
            if name not in known:
                raise no_such(spec.what, name, known, "variable")
            array = _Array(root[name.replace(".", "/")], self._file, f"{spec.what}::{name}", name)
            arrays[name] = ByChunks(array, array.chunk_rows, lock, len(names))
            self._chunk_rows = max(self._chunk_rows, array.chunk_rows)
        super().__init__(spec.path, arrays)

    @property
    def notes(self) -> list[str]:
        return notes_on_vectors(self._arrays, self._path)

    def digest(self) -> str:
        return self.digest_of_samples(self._chunk_rows)

    def stamp(self) -> str:
        return self._file.stamp()


class _Array:
    """A variable of the file."""

    def __init__(self, dataset: Any, file: LocalFile, what: str, name: str) -> None:
        self._dataset = dataset
        self._file = file
        self._what = what
        if _CLASS not in dataset.attrs:
            raise InputError(f"{what} was not written by MATLAB; if the file is HDF5 of another program, rename it .h5")
        kind = np.bytes_(dataset.attrs[_CLASS]).decode(errors="replace")
        check_class("sparse" if _SPARSE in dataset.attrs else kind, what, name.rpartition(".")[2])
        if _EMPTY in dataset.attrs:
            raise InputError(f"{what} is empty: MATLAB's size of it is {'x'.join(map(str, dataset[()].tolist()))}")
        check_filters(dataset, what)
        chunks = dataset.chunks or (1,)
        check_decoded(
            math.prod(chunks) * dataset.dtype.itemsize, what, "chunks", "Save it again in parts: MATLAB's matfile(...)"
        )
        self.chunk_rows: int = chunks[-1]
        self.num_rows, *shape = dataset.shape[::-1]
        self._kind = kind
        if kind == "char":
            if len(shape) != 1:
                raise InputError(f"{what} is of shape {dataset.shape[::-1]}, of characters; there must be two axes")
            self.row_type, self.row_bytes = RowType(RAGGED, TEXT), shape[0]
            return
        dtype = dataset.dtype.newbyteorder("=")
        if dtype.names == _COMPLEX:
            dtype = np.result_type(dtype[0], np.complex64)
        elif kind == "logical":
            dtype = np.dtype(np.bool_)
        check_dtype(dtype, what)
        self.row_type = RowType(tuple(shape), dtype)
        self.row_bytes = self.row_type.row_bytes

    def read(self, start: int, stop: int) -> Column:
        try:
            values = self._dataset[..., start:stop].T
            if self._kind == "char":
                rows = np.ascontiguousarray(values, np.dtype("<u2"))
                column: Column = ragged_text([row.tobytes().decode("utf-16-le") for row in rows])
            elif self.row_type.dtype.kind == "c" and values.dtype.names:
                complex_rows = np.empty(values.shape, self.row_type.dtype)
                complex_rows.real, complex_rows.imag = values[_COMPLEX[0]], values[_COMPLEX[1]]
                column = complex_rows
            else:
                column = np.ascontiguousarray(values, self.row_type.dtype)
        except Exception as error:  # a damaged chunk raises one of many exception types
            rows_read = name_rows(range(start, stop))
            raise InputError(f"{self._what}: {rows_read} cannot be read: {describe(error)}") from error
        read_range(self._file, self._file.size - 1, self._file.size)  # raises where the end is missing
        return column
