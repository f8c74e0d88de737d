"""Check of the first line of a CSV file: whether it names the columns."""

from collections.abc import Sequence
from itertools import pairwise

from runner.core.errors import InputError
from runner.core.text import listed
from runner.sources.base import DataSpec

_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_SHOWN = 60  # characters of a line in a message
_FEWEST_ASCENDING = 5  # numbers that ascend by chance once in 120 rows


def check_beginning(spec: DataSpec, header: bytes, rest: bytes, delimiter: str) -> None:
    """Raise InputError where the first line is a comment, or other characters separate its names.

    Args:
        spec: the data set.
        header: the first line that is not blank.
        rest: what follows.
        delimiter: the character that separates fields.
    """
    first, second = (lines.strip(b"\r\n").partition(b"\n")[0].decode(errors="replace") for lines in (header, rest))
    if first.startswith("#") and first.count(delimiter) != second.count(delimiter):
        raise InputError(
            f"{spec.what}: its first line is a comment, {first[:_SHOWN]!r}. Remove what is before the names"
        )
    if spec.names(lambda: ()) == [first]:
        return
    for separator, words in _SEPARATORS.items():
        if delimiter not in first and separator in first and separator in second:
            raise InputError(
                f"{spec.what} has one column, {first[:_SHOWN]!r}, so its values seem to be separated by {words}: save "
                "it with commas (or with tabs, as .tsv)"
            )


def check_header(spec: DataSpec, names: Sequence[str], are_numbers: Sequence[bool]) -> None:
    """Raise InputError where the first line looks like a row, or like names that other characters separate.

    Args:
        spec: the data set; where it names columns, these are trusted.
        names: the names in the first line.
        are_numbers: whether the values below are numbers, for each column.
    """
    if spec.names(lambda: ()):
        return
    if len(names) == 1:
        found = [words for separator, words in _SEPARATORS.items() if separator in names[0]]
        if found:
            raise InputError(
                f"{spec.what} has one column, {names[0]!r}, so its values seem to be separated by {found[0]}: save it "
                "with commas (or with tabs, as .tsv), or confirm the column with --columns"
            )
    numeric = [_is_number(name) for name in names]
    if any(numeric) and numeric == list(are_numbers) and not _is_scale([float(n) for n in names if _is_number(n)]):
        raise InputError(
            f"{spec.what}: its first line, which names the columns, looks like a row: {listed(names)}. Put a line of "
            "names before it; if these are the names, confirm them with --columns"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_scale(numbers: Sequence[float]) -> bool:
    """Return whether numbers are such as name columns: positions from 0 or 1 on, or many that ascend, as years do."""
    count = len(numbers)
    is_ascending = all(a < b for a, b in pairwise(numbers)) or all(a > b for a, b in pairwise(numbers))
    return list(numbers) in ([*range(count)], [*range(1, count + 1)]) or (count >= _FEWEST_ASCENDING and is_ascending)
