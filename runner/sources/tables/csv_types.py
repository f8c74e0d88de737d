"""Types of the columns of a CSV file, which are in no place of the file: inferred, kept as text, or given."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from runner.core.errors import InputError, UsageError
from runner.sources.base import DataSpec, no_such
from runner.sources.common_types import LIST

_DECIDING_ROWS = 1000  # a column is numeric where so many first rows are, even if later ones are not
_PLAIN = r"^-?(0|[1-9]\d*)$"
_NO_NUMBER = r"^(\s|[+]|-?0\d|-?\d{16}|.*[xX])"  # what would be changed: 007, 20 digits, 0x1F
HEXADECIMAL = re.compile(rb"0[xX][0-9a-fA-F]")
NULLS = ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "N/A", "NA", "NULL",
         "None", "n/a", "null"]  # fmt: skip # pyarrow's, without NaN, which is a number, and with Python's


class HeadFacts:
    """Facts from the rows at the beginning of a file; see `Facts`."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def shape(self, name: str) -> tuple[int, ...] | None:
        return None

    def sample(self, name: str) -> Any:
        return None

    def has_nulls(self, name: str) -> bool:
        return bool(self._table.column(name).null_count)


def given_types(spec: DataSpec, names: list[str]) -> dict[str, Any]:
    """Return the types that the user gives, as Arrow's.

    Raises:
        InputError: there is no such column.
        UsageError: a type that such a file cannot have.
    """
    import pyarrow as pa

    given = {}
    for name, kind in spec.options.types.items():
        if name not in names:
            raise no_such(spec.what, name, names)
        if kind == LIST:
            raise UsageError(f"{spec.what}: --types {name}={LIST}: CSV has no lists")
        given[name] = pa.type_for_alias(kind)
    return given


def column_types(table: Any, texts: Any, spec: DataSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the type of each column.

    Args:
        table: rows at the beginning, with the types that pyarrow infers.
        texts: the same as text; None where no columns are passed through.
        spec: the passthrough columns.
        given: types that the user gives, by column.
    """
    import pyarrow as pa

    types = {}
    for index, field in enumerate(table.schema):
        kind = field.type
        if pa.types.is_string(kind) and _begins_with_numbers(table.column(index)):
            kind = pa.float64()
        if pa.types.is_null(kind) and (not len(table) or spec.options.null_is_nan):
            kind = pa.float64()
        if field.name in spec.keep and texts is not None:
            kind = _kept_type(kind, texts.column(index))
        types[field.name] = given.get(field.name, kind)
    return types


def as_numbers(column: Any, kind: Any, name: str, what: str, first: int) -> Any:
    """Return whole numbers from their text.

    Args:
        column: the text.
        kind: the type of the numbers.
        name: the column.
        what: the data set, for messages.
        first: number of the first row.

    Raises:
        InputError: a number would be written otherwise than in the text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    given = pc.if_else(pc.is_in(column, pa.array(NULLS)), None, column)
    try:
        numbers = given.cast(kind)
        same = pc.fill_null(pc.equal(numbers.cast(pa.string()), given), True).to_numpy()
    except pa.ArrowInvalid:
        same = np.array([text is None or re.match(_PLAIN, text) is not None for text in given.to_pylist()])
        if same.all():
            raise
    if not same.all():
        row = int(np.flatnonzero(~same)[0])
        raise InputError(
            f"{what}: row {first + row} of column {name!r} is {given[row].as_py()!r}, where those before are whole "
            f"numbers. To keep the text as it is: --types {name}=string"
        )
    return numbers


def check_hexadecimal(table: Any, texts: Any, what: str, first: int) -> None:
    """Raise InputError where pyarrow has read a number in hexadecimal digits as a negative one, as its sign bit is set.

    Args:
        table: rows.
        texts: their signed whole numbers as text.
        what: the data set, for messages.
        first: number of the first row.
    """
    import pyarrow.compute as pc

    for name in texts.column_names:
        are_hexadecimal = pc.match_substring_regex(texts.column(name), r"^\s*0[xX]")
        wrapped = pc.and_(are_hexadecimal, pc.fill_null(pc.less(table.column(name), 0), False)).to_numpy()
        if wrapped.any():
            row = int(np.flatnonzero(wrapped)[0])
            raise InputError(
                f"{what}: row {first + row} of column {name!r} is {texts.column(name)[row].as_py().strip()}, which is "
                f"too large for {table.column(name).type}. Read it with --types {name}=uint64, or as text with "
                f"--types {name}=string"
            )


def _begins_with_numbers(column: Any) -> bool:
    """Return whether the first values are numbers: others are bad rows."""
    import pyarrow as pa

    try:
        column.slice(0, _DECIDING_ROWS).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return len(column) > 0


def _kept_type(kind: Any, texts: Any) -> Any:
    """Return the type of a passthrough column: text where its numbers, dates or times would be written otherwise."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_integer(kind):
        there = pc.if_else(pc.is_in(texts, pa.array(NULLS)), None, texts)
        are_plain = pc.match_substring_regex(there, _PLAIN).combine_chunks()
        return kind if pc.all(are_plain).as_py() is not False else pa.string()
    if pa.types.is_floating(kind):
        return pa.string() if pc.any(pc.match_substring_regex(texts, _NO_NUMBER)).as_py() else kind
    return kind if pa.types.is_boolean(kind) else pa.string()
