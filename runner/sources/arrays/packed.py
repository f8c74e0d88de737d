"""Packed numbers of climate data: whole numbers with a scale, an offset and values that stand for nothing.

The attributes are those of the CF conventions, which netCDF files and xarray's Zarr folders have; the dtype of the
unpacked values is the one that xarray chooses.
"""

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runner.core.errors import InputError

_SCALE = "scale_factor"
_OFFSET = "add_offset"
_UNSIGNED = "_Unsigned"
_MISSING = ("_FillValue", "missing_value")
PACKING_ATTRIBUTES = (*_MISSING, _SCALE, _OFFSET, _UNSIGNED)


@dataclass(frozen=True)
class Packing:
    """How the stored numbers of an array become the numbers that they stand for.

    Attributes:
        stored: dtype in which the stored numbers are read.
        missing: stored numbers that become NaN.
        scale, offset: factor, and the number that is added after it; None for none.
        dtype: dtype of the result.
    """

    stored: np.dtype[Any]
    missing: np.ndarray
    scale: Any
    offset: Any
    dtype: np.dtype[Any]

    def unpack(self, values: np.ndarray) -> np.ndarray:
        """Return the numbers that stored ones stand for."""
        stored = np.asarray(values).astype(self.stored, copy=False)
        unpacked = stored.astype(self.dtype)
        if len(self.missing):
            unpacked[np.isin(stored, self.missing)] = np.nan
        if self.scale is not None:
            unpacked *= self.dtype.type(self.scale)
        if self.offset is not None:
            unpacked += self.dtype.type(self.offset)
        return unpacked


def find_packing(attributes: Mapping[str, Any], dtype: np.dtype[Any], what: str) -> Packing | None:
    """Return the packing that the attributes of an array tell; None where its numbers are what they are.

    Raises:
        InputError: an attribute is not a number, where there should be one.
    """
    if dtype.kind not in "iuf":
        return None
    numbers = {
        name: _numbers(attributes[name], name, what) for name in (*_MISSING, _SCALE, _OFFSET) if name in attributes
    }
    scale, offset = (numbers[name][0] if name in numbers else None for name in (_SCALE, _OFFSET))
    stored = native = dtype.newbyteorder("=")
    sign = str(_plain(attributes.get(_UNSIGNED, ""))).lower()
    if dtype.kind in "iu" and sign in ("true", "false"):
        stored = np.dtype(f"{'u' if sign == 'true' else 'i'}{dtype.itemsize}")
    marks = _marks([value for name in _MISSING for value in numbers.get(name, ())], native, stored)
    is_packed = scale is not None or offset is not None or len(marks)
    if not is_packed and stored == native:
        return None
    unpacked = _unpacked_dtype(stored, scale, offset) if is_packed else stored
    return Packing(stored, marks, scale, offset, unpacked)


def _marks(missing: Sequence[Any], dtype: np.dtype[Any], stored: np.dtype[Any]) -> np.ndarray:
    """Return the values that stand for nothing, as they are stored; NaN needs no mark."""
    if dtype.kind == "f":
        return np.array([value for value in missing if not np.isnan(value)], stored)
    whole = [int(value) for value in missing if np.isfinite(value) and int(value) == value]
    # the sign of a mark is that of the numbers as they lie in the file, or as they are read
    for kind in (dtype, stored):
        limits = np.iinfo(kind)
        marks = [value for value in whole if limits.min <= value <= limits.max]
        if len(marks) == len(whole):
            return np.array(marks, kind).astype(stored)
    return np.empty(0, stored)  # none of its numbers can be such a value


def _unpacked_dtype(stored: np.dtype[Any], scale: Any, offset: Any) -> np.dtype[Any]:
    single, double = np.dtype(np.float32), np.dtype(np.float64)
    is_small = stored.itemsize < single.itemsize or stored == single
    if scale is None and offset is None:
        return single if is_small else double
    if scale is None or (offset is not None and offset.dtype != scale.dtype):
        return double
    return single if scale.dtype == single and is_small else double


def _numbers(value: Any, name: str, what: str) -> np.ndarray:
    """Return an attribute as a 1-D array of numbers; xarray writes some of Zarr 3 in base64."""
    plain = _plain(value)
    try:
        if isinstance(plain, str):
            return np.array(struct.unpack("<d", base64.b64decode(plain, validate=True)))
        numbers = np.asarray(plain).reshape(-1)
        if numbers.dtype.kind in "iuf" and len(numbers):
            return numbers
    except (ValueError, struct.error):
        pass
    raise InputError(f"{what}: its attribute {name} is {plain!r}, which is not a number")


def _plain(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
