"""Rows of the variables in a MATLAB file: those of versions 4 to 7 by scipy, kept in memory; of 7.3 from its HDF5."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from runner.core.checksum import checksum_of_text
from runner.core.errors import InputError, describe
from runner.core.text import byte_size, listed, plural
from runner.data.rows import RAGGED, TEXT, Column, RowType, ragged_text
from runner.sources.arrays.named import NamedSource, the_only
from runner.sources.base import DataSpec, Source
from runner.sources.files import LocalFile, read_range, sampled_checksum

_HEADER_BYTES, _VERSION_BYTES = 128, 4
_OF_HDF5 = (b"\x00\x02IM", b"\x02\x00MI")  # little-endian, big-endian
_HDF5 = b"\x89HDF"
_KEPT_BYTES = 1 << 30
_CHARACTER_BYTES = 4  # as NumPy has them
_DTYPES: dict[str, np.dtype[Any]] = {
    "double": np.dtype(np.float64),
    "single": np.dtype(np.float32),
    "logical": np.dtype(np.bool_),
    **{f"{sign}int{bits}": np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_ADVICE = {
    "char": "",
    "cell": "Of a cell array of texts, save char(NAME)",
    "sparse": "Save it dense: full(NAME)",
    "struct": "Save its fields as variables: save('d.mat', '-struct', 'NAME')",
    "opaque": "Save a table as a matrix: table2array(NAME)",
}


def open_mat(spec: DataSpec) -> Source:
    """Return the source of a MATLAB file of any version."""
    file = LocalFile(spec.path)
    beginning = read_range(file, 0, min(file.size, _HEADER_BYTES))
    if beginning[-_VERSION_BYTES:] in _OF_HDF5 or beginning.startswith(_HDF5):
        from runner.sources.arrays.matlab_hdf5 import Mat73Source

        return Mat73Source(spec)
    return MatSource(spec)


class MatSource(NamedSource):
    """A MATLAB file of versions 4 to 7: variables by name, whose first dimension is the rows.

    Raises:
        InputError: no such file or variable, another or a damaged file, several variables and none chosen, variables
            with different numbers of rows, of more than 1 GiB together, or of a class without rows.
    """

    def __init__(self, spec: DataSpec) -> None:
        self._file = LocalFile(spec.path)
        classes = self._classes(spec)
        names = spec.choose(list(classes), None if spec.columns else the_only_of(spec, list(classes)), "variable")
        for name in names:
            kind, _ = classes[name]
            check_class(kind, f"{spec.what}::{name}", name)
        held = sum(_held_bytes(*classes[name]) for name in names)
        if held > _KEPT_BYTES:
            raise InputError(
                f"{spec.what}: no part of a variable can be read alone, so each rank would hold {listed(names)} in "
                f"memory: {byte_size(held)} of at most {byte_size(_KEPT_BYTES)}. Save the file as version 7.3: "
                "save('d.mat', '-v7.3')"
            )
        self._names = names
        super().__init__(spec.path, self._load(spec, {name: classes[name][0] for name in names}))

    @property
    def notes(self) -> list[str]:
        return notes_on_vectors(self._arrays, self._path)

    def digest(self) -> str:
        return checksum_of_text(f"{sampled_checksum(self._file)} {' '.join(self._names)}")

    def stamp(self) -> str:
        return self._file.stamp()

    def _classes(self, spec: DataSpec) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return the class and the shape of all variables, by name."""
        from scipy.io import whosmat

        try:
            variables = whosmat(spec.path, appendmat=False, chars_as_strings=False)
        except Exception as error:  # a damaged file raises one of many exception types
            raise _no_mat(spec, error) from error
        return {name: (kind, shape) for name, shape, kind in variables if not name.startswith("__")}

    def _load(self, spec: DataSpec, kinds: dict[str, str]) -> dict[str, "_Held"]:
        from scipy.io import loadmat

        try:
            # not mat_dtype: with it, scipy 1.17 drops the imaginary parts of complex numbers
            loaded = loadmat(spec.path, appendmat=False, variable_names=list(kinds))
        except Exception as error:
            raise _no_mat(spec, error) from error
        arrays = {}
        for name, kind in kinds.items():
            what = f"{spec.what}::{name}"
            if not isinstance(loaded.get(name), np.ndarray):
                raise InputError(f"{what} is sparse. {_ADVICE['sparse'].replace('NAME', name)}")
            arrays[name] = _Held(loaded[name], kind, what)
        return arrays


class _Held:
    """A variable in memory."""

    def __init__(self, values: np.ndarray, kind: str, what: str) -> None:
        self.num_rows: int = values.shape[0] if values.ndim else 0
        if kind == "char":
            if values.ndim != 1:
                raise InputError(f"{what} is of {plural(values.ndim + 1, 'dimension')}, of characters, not of two")
            self._values = values
            self.row_type = RowType(RAGGED, TEXT)
            self.row_bytes = values.dtype.itemsize // _CHARACTER_BYTES
            return
        dtype = _DTYPES[kind]
        if values.dtype.kind == "c":
            dtype = np.result_type(dtype, np.complex64)
        self._values = values.astype(dtype, copy=False)
        self.row_type = RowType(values.shape[1:], dtype)
        self.row_bytes = self.row_type.row_bytes

    def read(self, start: int, stop: int) -> Column:
        values = self._values[start:stop]
        return ragged_text(values.tolist()) if self.row_type.is_ragged else np.array(values, order="C")


def the_only_of(spec: DataSpec, names: Sequence[str]) -> list[str]:
    """Return the variables to read where none is chosen."""
    return [] if spec.inner else the_only(spec.path, names, "variable")


def check_class(kind: str, what: str, name: str) -> None:
    """Raise InputError unless the values of a MATLAB class can be rows.

    Args:
        kind: the class.
        what: the variable, for messages.
        name: its name in MATLAB.
    """
    if kind not in _DTYPES and kind != "char":
        advice = _ADVICE.get(kind, "Save it as a matrix of numbers").replace("NAME", name)
        raise InputError(f"{what} is of MATLAB's class {kind}; rows must be numbers, logical or char. {advice}")


def notes_on_vectors(arrays: Any, path: str) -> list[str]:
    """Return notes on variables of one row of many values, where many rows of one value may be meant."""
    return [
        f"--data {path}::{name} is one row of {plural(array.row_type.shape[0], 'value')}, as MATLAB has a row vector. "
        f"For that many rows, transpose it: {name} = {name}.'"
        for name, array in arrays.items()
        if array.num_rows == 1 and not array.row_type.is_ragged and array.row_type.shape[0] > 1
    ]


def _held_bytes(kind: str, shape: Sequence[int]) -> int:
    return math.prod(shape) * (_DTYPES[kind].itemsize if kind in _DTYPES else _CHARACTER_BYTES)


def _no_mat(spec: DataSpec, error: Exception) -> InputError:
    return InputError(f"{spec.what} is not a MATLAB file, is truncated, or is damaged: {describe(error)}")
