"""Python values as columns of rows: numbers, booleans and text, with a type decided by the first values."""

import decimal
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from runner.core.errors import InputError
from runner.core.text import plural
from runner.data.rows import RAGGED, TEXT, Column, RowType, ragged_text

_KINDS = {bool: "bool", int: "int", float: "float", decimal.Decimal: "float", str: "str"}
_INT64 = np.iinfo(np.int64)
NAN_ADVICE = "Read nulls as NaN with --null nan, or set such rows aside with --on-error quarantine"
_SHOWN = 60  # characters of a value shown in a message


def type_of_values(values: Sequence[Any], what: str, null_is_nan: bool = False) -> RowType:
    """Return the row type of most of the values; float64 where there are none, or whole numbers and nulls as NaN.

    Raises:
        InputError: they are neither numbers, booleans nor text, or all are None.
    """
    kinds = Counter(_KINDS.get(type(value), type(value).__name__) for value in values if value is not None)
    if not kinds:
        if values:
            raise InputError(
                f"{what} is null in all of the first {plural(len(values), 'row')}. Choose other columns with --columns"
            )
        return RowType((), np.dtype(np.float64))
    if null_is_nan and "int" in kinds and None in values:
        kinds["float"] += 1
    if "int" in kinds and "float" in kinds:
        kinds["float"] += kinds.pop("int")
    kind = kinds.most_common(1)[0][0]
    if kind not in _KINDS.values():
        raise InputError(
            f"{what} holds values of type {kind}; rows must be numbers or text. Choose other columns with --columns, "
            "or convert it in a SELECT"
        )
    if kind == "str":
        return RowType(RAGGED, TEXT)
    return RowType((), np.dtype({"bool": np.bool_, "int": np.int64, "float": np.float64}[kind]))


def values_as_column(
    values: Sequence[Any], row_type: RowType, name_row: Callable[[int], str], null_is_nan: bool = False
) -> Column:
    """Return values as a column of the type given by `type_of_values`.

    Args:
        values: values of the rows.
        row_type: the type.
        name_row: returns the name of a row and column for messages, from an index in `values`.
        null_is_nan: whether None becomes NaN among floating-point numbers.

    Raises:
        InputError: a value is None, or of another type.
    """
    if null_is_nan and row_type.dtype.kind == "f":
        values = [np.nan if value is None else value for value in values]
    for index, value in enumerate(values):
        if not _fits(value, row_type.dtype):
            raise InputError(f"{name_row(index)} is {_describe(value, row_type)}")
    return ragged_text(values) if row_type.dtype == TEXT else np.array(values, row_type.dtype)


def _fits(value: Any, dtype: np.dtype[Any]) -> bool:
    if dtype == TEXT:
        return isinstance(value, str) and _is_unicode(value)
    if isinstance(value, bool) or dtype == np.bool_:
        return isinstance(value, bool) and dtype == np.bool_
    if dtype == np.int64:
        return isinstance(value, int) and _INT64.min <= value <= _INT64.max
    return isinstance(value, int | float | decimal.Decimal)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes that were not UTF-8 have been read as lone surrogates
        return False
    return True


def _describe(value: Any, row_type: RowType) -> str:
    if value is None:
        return "null" + f". {NAN_ADVICE}" * (row_type.dtype.kind in "iuf")
    if isinstance(value, str) and row_type.dtype == TEXT:
        return "text that is not UTF-8"
    text = ascii(value)
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    return f"{shown} ({type(value).__name__}), where others are {'text' if row_type.dtype == TEXT else row_type.dtype}"
