"""Python values as cells: what a database has in passthrough columns, null included."""

import decimal
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from runner.core.errors import InputError, describe
from runner.core.imports import import_extra
from runner.data.cell_types import arrow_type
from runner.data.cells import to_cells, type_of_cells
from runner.data.rows import RAGGED, Ragged, RowType

_DIGITS = 38  # the most of a decimal of 128 bits


def type_of_value_cells(values: Sequence[Any], what: str) -> RowType:
    """Return the row type of values as cells; text where Arrow has no type for them, or all are None."""
    pa = import_extra("pyarrow", f"{what}, kept beside predictions,", "parquet")
    there = [_plain(value) for value in values if value is not None]
    try:
        kind = pa.array(there).type if there else pa.string()
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, UnicodeEncodeError):
        kind = pa.string()
    if pa.types.is_decimal(kind):
        kind = pa.decimal128(_DIGITS, kind.scale)
    return RowType(RAGGED, type_of_cells(kind))


def values_as_cells(values: Sequence[Any], row_type: RowType, name_row: Callable[[int], str]) -> Ragged:
    """Return values as cells of the type given by `type_of_value_cells`.

    Args:
        values: values of the rows; None is null.
        row_type: the type.
        name_row: returns the name of a row and column for messages, from an index in `values`.

    Raises:
        InputError: a value is of another type.
    """
    import pyarrow as pa

    kind = arrow_type(row_type.dtype)
    plain = [str(value) if _is_odd(value, kind) else _plain(value) for value in values]
    try:
        return to_cells(pa.array(plain, kind), row_type.dtype)
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError) as error:
        for index, value in enumerate(plain):
            try:
                pa.array([value], kind)
            except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError) as why:
                raise InputError(f"{name_row(index)} is no {kind}, as others are: {describe(why)}") from error
        raise


def _plain(value: Any) -> Any:
    if isinstance(value, uuid.UUID):
        return str(value)
    return bytes(value) if isinstance(value, memoryview) else value


def _is_odd(value: Any, kind: Any) -> bool:
    """Return whether a value is written as text in a column of values that have no type in common."""
    import pyarrow as pa

    return pa.types.is_string(kind) and isinstance(value, bool | int | float | decimal.Decimal)
