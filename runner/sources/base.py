"""The protocol of a source of rows, what a source is made of, and the checks that formats share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from runner.core.errors import InputError, UsageError
from runner.core.text import byte_size, listed, plural
from runner.data.rows import Rows, RowType, RowTypes

_DECODED_BYTES = 4 << 30  # the most that is decoded in one piece


@dataclass(frozen=True)
class ReadOptions:
    """How values are read, where a format leaves a choice.

    Attributes:
        cells: passthrough columns that may be of any Arrow type and null, for an output that holds such.
        null_is_nan: whether null becomes NaN in columns of numbers.
        types: types of columns, by name, instead of those that the data suggest.
        args: arguments of a function that makes the data set.
    """

    cells: Sequence[str] = ()
    null_is_nan: bool = False
    types: Mapping[str, str] = field(default_factory=dict)
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSpec:
    """A data set to open, and the columns of it to read: the only argument of every source.

    Attributes:
        path: path or URL.
        inner: the name after `::`, in most formats one column, whose values are the rows; "" for none.
        columns: the columns to read; none for the format's default, mostly all.
        keep: passthrough columns, written beside the predictions.
        most_rows: rows from the first on that are needed; None for all. Formats that have to hold rows use it.
        options: how values are read.
    """

    path: str
    inner: str = ""
    columns: Sequence[str] = ()
    keep: Sequence[str] = ()
    most_rows: int | None = None
    options: ReadOptions = ReadOptions()

    @property
    def what(self) -> str:
        """The data set, for messages."""
        return f"--data {self.path}"

    def names(self, default: Callable[[], Sequence[str]]) -> list[str]:
        """Return the columns to read, each once: those requested, else the format's default, then those to keep."""
        if self.inner and self.columns:
            raise UsageError(f"{self.what}: --columns and ::{self.inner} cannot be combined")
        requested = [self.inner] if self.inner else self.columns
        return list(dict.fromkeys([*(requested or default()), *self.keep]))

    def choose(self, known: Sequence[str], default: Sequence[str] | None = None, word: str = "column") -> list[str]:
        """Return the columns to read, each once.

        Args:
            known: the columns that there are.
            default: those to read where none is requested; None for all.
            word: what the format calls a column.

        Raises:
            InputError: there is no such column.
        """
        names = self.names(lambda: known if default is None else default)
        for name in names:
            if name not in known:
                raise no_such(self.what, name, known, word)
        return names

    def refuse_names(self) -> None:
        """Raise UsageError where a column is requested in a format without columns."""
        if names := self.names(lambda: ()):
            raise UsageError(f"{self.what} has no columns to choose {self.inner or ', '.join(names)} from")


class Source(Protocol):
    """A data set of `num_rows` rows from which any range can be read.

    Attributes:
        num_rows: number of rows.
        row_type: shape and dtype of a row; by name where there are several columns.
        row_bytes: average size of a row, in bytes.
    """

    @property
    def num_rows(self) -> int: ...
    @property
    def row_type(self) -> RowTypes: ...
    @property
    def row_bytes(self) -> int: ...

    def read(self, start: int, stop: int) -> Rows:
        """Read rows `start..stop` into memory of their own, contiguous, in native byte order.

        May be called from another thread.

        Raises:
            InputError: the rows cannot be read.
        """
        ...

    def digest(self) -> str:
        """Return a checksum that differs for another data set. It may sample a large one."""
        ...

    def stamp(self) -> str:
        """Return a value, quick to get, that changes whenever the data set is written to, even with the same rows."""
        ...


@runtime_checkable
class Scanned(Protocol):
    """A source whose rows are known only after a scan, which all ranks share, each over a part."""

    def scan(self, part: int, parts: int) -> Any:
        """Return the contents of one of several parts."""
        ...

    def use(self, scans: Sequence[Any]) -> None:
        """Take the scans of all parts, in order."""
        ...


@runtime_checkable
class Noted(Protocol):
    """A source that tells something about its data that its reader may not expect; only once it has its scans."""

    @property
    def notes(self) -> Sequence[str]: ...


def no_such(what: str, name: str, names: Sequence[str], word: str = "column") -> InputError:
    """Return the error for a name that a data set does not have.

    Args:
        what: the data set, for messages.
        name: the name.
        names: those that there are.
        word: what the format calls them.
    """
    has = f"it has {listed(names)}" if names else "it has none"
    return InputError(f"{what} has no {word} {name!r}; {has}")


def evenly(count: int, most: int) -> list[int]:
    """Return at most `most` of the indices below `count`, evenly spread: samples for a digest."""
    chosen = min(count, most)
    return [count * index // chosen for index in range(chosen)]


def check_row_types(source: Source, what: str) -> None:
    """Raise InputError where rows hold nothing: a few bytes of a file could then claim any number of them."""
    types = [source.row_type] if isinstance(source.row_type, RowType) else list(source.row_type.values())
    if source.num_rows and not any(row_type.is_ragged or row_type.row_bytes for row_type in types):
        shapes = ", ".join(str(row_type.shape) for row_type in types)
        raise InputError(
            f"{what} has {plural(source.num_rows, 'row')} of shape {shapes}, which hold no values. Check how it was "
            "written"
        )


def check_decoded(num_bytes: int, what: str, pieces: str, advice: str) -> None:
    """Raise InputError where a piece of data is too large to be decoded: its size in the file says little about it.

    Args:
        num_bytes: bytes of the largest piece, decoded.
        what: the data set, for messages.
        pieces: what such pieces are called.
        advice: how to write the data with smaller ones.
    """
    if num_bytes > _DECODED_BYTES:
        raise InputError(
            f"{what} has {pieces} of {byte_size(num_bytes)} when decoded; each is decoded as a whole, and at most "
            f"{byte_size(_DECODED_BYTES)} are. {advice}"
        )


def check_dtype(dtype: np.dtype[Any], what: str) -> None:
    """Raise InputError unless torch can hold the dtype."""
    if dtype.names is not None:
        for name in dtype.names:
            check_dtype(dtype[name].base, f"field {name!r} of {what}")
    elif dtype.kind not in "biufc" or dtype.itemsize > 16 or dtype.name in ("float128", "longdouble"):
        raise InputError(
            f"{what} is of dtype {dtype}; rows must be bool, integer, floating-point or complex numbers. "
            "Save it again with .astype(...)"
        )
