"""Rows of the variables in a netCDF file of version 3, whose header scipy reads."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from runner.core.errors import InputError, describe
from runner.data.rows import RAGGED, TEXT, Column, RowType, name_rows, ragged_text
from runner.sources.arrays.named import NamedSource, text_of, the_only
from runner.sources.arrays.packed import PACKING_ATTRIBUTES, find_packing
from runner.sources.arrays.strided import Records, StridedRows
from runner.sources.base import DataSpec, check_dtype, no_such
from runner.sources.files import LocalFile, read_range

_ENCODING = "_Encoding"
_LARGE = 5  # the version whose sizes have 64 bits
_UNCOUNTED = b"\xff\xff\xff\xff"  # instead of the number of records
_AS_VERSION_4 = "Write it as version 4: nccopy -k nc4 OLD NEW"


class Netcdf3Source(NamedSource):
    """A netCDF file in classic or 64-bit-offset format: variables by name, whose first dimension is the rows.

    Raises:
        InputError: no such file or variable, another or a damaged file, several variables and none chosen, variables
            with different numbers of rows.
    """

    def __init__(self, spec: DataSpec) -> None:
        self._file = LocalFile(spec.path)
        variables = _read_header(self._file, spec.what)
        names = spec.names(lambda: the_only(spec.path, sorted(variables), "variable"))
        for name in names:
            if name not in variables:
                raise no_such(spec.what, name, sorted(variables), "variable")
        in_records = [variables[name] for name in names if variables[name].is_in_records]
        base = min((variable.offset for variable in in_records), default=0)
        records = Records(self._file, base, in_records[0].stride if in_records else 0)
        arrays = {}
        for name in names:
            variable = variables[name]
            alone = Records(self._file, variable.offset, variable.row_bytes)
            at, place = (records, variable.offset - base) if variable.is_in_records else (alone, 0)
            arrays[name] = _Array(variable, at, place, f"{spec.what}::{name}")
        super().__init__(spec.path, arrays)

    def digest(self) -> str:
        return self.digest_of_samples(1)

    def stamp(self) -> str:
        return self._file.stamp()


@dataclass(frozen=True)
class _Variable:
    """A variable as the header describes it.

    Attributes:
        shape: its shape, rows first.
        dtype: dtype in the file; S1 for characters.
        offset: its first byte.
        stride: bytes from one row to the next.
        attributes: those that tell how its values are packed, by name.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    stride: int
    attributes: dict[str, Any]

    @property
    def row_bytes(self) -> int:
        """The bytes of a row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def is_in_records(self) -> bool:
        """Whether values of other variables lie between its rows."""
        return self.stride > self.row_bytes


class _Array:
    """A variable of the file."""

    def __init__(self, variable: _Variable, records: Records, place: int, what: str) -> None:
        self._what = what
        if not variable.shape:
            raise InputError(f"{what} is a single value; its first dimension must be the rows")
        self.num_rows, *shape = variable.shape
        self._stored = StridedRows(records, place, tuple(shape), variable.dtype)
        self._packing = None
        if variable.dtype.kind == "S":
            if len(shape) != 1 or not shape[0]:
                raise InputError(f"{what} is of shape {variable.shape}, of characters, not of one text a row")
            self._encoding = _encoding_of(variable, what)
            self.row_type, self.row_bytes = RowType(RAGGED, TEXT), shape[0]
            return
        check_dtype(variable.dtype, what)
        self._packing = find_packing(variable.attributes, variable.dtype, what)
        dtype = self._packing.dtype if self._packing else variable.dtype.newbyteorder("=")
        self.row_type = RowType(tuple(shape), dtype)
        self.row_bytes = self.row_type.row_bytes

    def read(self, start: int, stop: int) -> Column:
        values = self._stored.read(start, stop)
        if not self.row_type.is_ragged:
            return np.ascontiguousarray(self._packing.unpack(values) if self._packing else values, self.row_type.dtype)
        texts = values.view(f"S{values.shape[1]}").reshape(-1)
        if not self._encoding:
            return text_of(texts)
        try:
            return ragged_text([text.decode(self._encoding) for text in texts.tolist()])
        except UnicodeError as error:
            raise InputError(f"{self._what}: {name_rows(range(start, stop))}: {describe(error)}") from error


def _encoding_of(variable: _Variable, what: str) -> str:
    """Return the encoding of characters; empty where they are UTF-8."""
    name = variable.attributes.get(_ENCODING, b"")
    text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    try:
        "".encode(text or "utf-8")
    except LookupError:
        raise InputError(f"{what}: its attribute {_ENCODING} is {text!r}, which is no encoding") from None
    return "" if text.lower() in ("", "utf-8", "utf8", "ascii") else text


def _read_header(file: LocalFile, what: str) -> dict[str, _Variable]:
    """Return the variables of a file by name.

    Raises:
        InputError: it is another or a damaged file.
    """
    from scipy.io import netcdf_file

    beginning = read_range(file, 0, min(8, file.size))
    if beginning[3:4] == bytes([_LARGE]):
        raise InputError(f"{what} is netCDF in 64-bit-data format (CDF-5), which scipy cannot read. {_AS_VERSION_4}")
    if beginning[4:] == _UNCOUNTED:
        raise InputError(f"{what} does not say how many records it has: it was not closed by the program that wrote it")
    header, why = None, ""
    try:
        header = netcdf_file(file.path, "r", mmap=True, maskandscale=False)
        variables = {name: _facts_of(variable, file.size) for name, variable in header.variables.items()}
    except Exception as error:  # a damaged header raises one of many exception types
        why = describe(error)  # no more of it: its frames would keep the file mapped
    if header is not None:
        header.variables = {}  # so that closing can unmap the file
        header.close()
    if why:
        raise InputError(f"{what} is not a netCDF file of version 3, is truncated, or is damaged: {why}")
    return variables


def _facts_of(variable: Any, file_bytes: int) -> _Variable:
    """Return what is known of a variable whose data lie in a map of the file."""
    data = variable.data
    mapped = data
    while isinstance(mapped, np.ndarray) and isinstance(mapped.base, np.ndarray):
        mapped = mapped.base
    if not isinstance(mapped, np.ndarray) or mapped.nbytes != file_bytes or not isinstance(mapped.base, memoryview):
        raise ValueError("an attribute of a variable has the name of one of scipy's own")
    offset = data.__array_interface__["data"][0] - mapped.__array_interface__["data"][0] if data.size else 0
    attributes = {}
    for name in (*PACKING_ATTRIBUTES, _ENCODING):
        if name in vars(variable):
            value = vars(variable)[name]
            attributes[name] = value.astype(value.dtype.newbyteorder("=")) if hasattr(value, "dtype") else value
    return _Variable(data.shape, data.dtype, offset, data.strides[0] if data.shape else 0, attributes)
