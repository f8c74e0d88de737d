"""Types of cells: one value of any Arrow type, or null, as passthrough columns have them.

A cell's dtype names its Arrow type: first in words, then as Arrow itself writes a schema, so that every rank and every
later job gets the very type.
"""

import base64
import functools
from typing import Any

import numpy as np

CELLS = " or null"  # ends the name of such a type, in messages and records
_MARK = "cell "
_BETWEEN = "\n"


def cell_dtype(kind: Any) -> np.dtype[Any]:
    """Return the dtype of the bytes of cells of an Arrow type."""
    import pyarrow as pa

    schema = pa.schema([pa.field("cell", kind)]).serialize().to_pybytes()
    return np.dtype([(f"{_MARK}{kind}{_BETWEEN}{base64.b64encode(schema).decode()}", np.uint8)])


@functools.cache
def json_dtype() -> np.dtype[Any]:
    """Return the dtype of cells of JSON."""
    import pyarrow as pa

    return cell_dtype(pa.json_())


def cell_name(dtype: np.dtype[Any]) -> str:
    """Return the type of cells in words; "" for other dtypes."""
    if dtype.names is None or not dtype.names[0].startswith(_MARK):
        return ""
    return f"{dtype.names[0].removeprefix(_MARK).partition(_BETWEEN)[0]}{CELLS}"


def arrow_type(dtype: np.dtype[Any]) -> Any:
    """Return the Arrow type of cells."""
    assert dtype.names is not None
    return _parsed(dtype.names[0].partition(_BETWEEN)[2])


@functools.cache
def _parsed(schema: str) -> Any:
    import pyarrow as pa

    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(schema))).field(0).type
