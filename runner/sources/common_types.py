"""One type for the columns of several files: each file alone may look narrower than all of them together."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from runner.data.cell_types import arrow_type, cell_name
from runner.data.rows import RAGGED, TEXT, RowType, RowTypes

LIST = "list"  # the type of lists that are of any length, though all may be of one


def types_to_give(types: Sequence[RowTypes], names: Sequence[str], keep: Sequence[str]) -> dict[str, str] | None:
    """Return the types to read columns with so that they are the same in all files; None where there are none.

    Args:
        types: the row types of the files.
        names: the columns that were asked for, where it is one without a name in the types.
        keep: passthrough columns, which may be text where one of the files has text.
    """
    columns = [{names[0]: kind} if isinstance(kind, RowType) and names else kind for kind in types]
    if not all(isinstance(kind, Mapping) and kind.keys() == columns[0].keys() for kind in columns):  # type: ignore[union-attr]
        return None
    given: dict[str, str] = {}
    for name in columns[0]:  # type: ignore[union-attr]
        kinds = list(dict.fromkeys(kind[name] for kind in columns))  # type: ignore[index]
        if len(kinds) > 1:
            common = reduce(_wider, (_name_of(kind, name in keep) for kind in kinds))
            if common is None:
                return None
            given[name] = {"text": "string"}.get(common, common)
    return given


def _name_of(kind: RowType, is_kept: bool) -> str | None:
    """Return the type of a column as --types has it; None where it has none."""
    if kind.dtype == TEXT:
        return "text" if is_kept else "string"
    if cell_name(kind.dtype):
        return _name_of_cells(arrow_type(kind.dtype))
    if kind.shape == RAGGED or len(kind.shape) == 1:
        return f"list of {kind.dtype}"
    return str(kind.dtype) if not kind.shape and kind.dtype.kind in "iuf" else None


def _name_of_cells(kind: Any) -> str | None:
    import pyarrow as pa

    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return str(np.dtype(kind.to_pandas_dtype())) if is_number else None


def _wider(one: str | None, other: str | None) -> str | None:
    """Return the type that holds the values of both; None where there is none."""
    if one is None or other is None:
        return None
    if one.startswith("list") or other.startswith("list"):
        return LIST if one == other or LIST in (one, other) else None
    if one != other and "string" in (one, other):
        return None
    if "text" in (one, other):
        return "text"
    return str(np.result_type(one, other))
