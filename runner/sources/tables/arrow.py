"""Arrow columns as rows: numbers, lists of numbers of fixed or variable length, text, and cells to pass through."""

from dataclasses import replace
from typing import Any, Literal, Protocol

import numpy as np

from runner.core.errors import InputError, UsageError, describe
from runner.core.text import row_range
from runner.data.cell_types import cell_name
from runner.data.cells import to_cells, type_of_cells
from runner.data.rows import RAGGED, TEXT, Column, Ragged, Rows, RowType, RowTypes
from runner.sources.base import DataSpec, check_dtype, no_such
from runner.sources.common_types import LIST
from runner.sources.media.decode import Size, size_of
from runner.sources.tables.arrow_types import as_plain, is_list, is_text, plain_field
from runner.sources.tables.pictures import Pictures, are_pictures
from runner.sources.tables.sounds import Sounds, are_sounds
from runner.sources.tables.values import NAN_ADVICE

_NULL_ADVICE = "Set such rows aside with --on-error quarantine"


class Facts(Protocol):
    """Knowledge of a format about its columns before they are read."""

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the lengths of the lists in a column, from the outside in, where all rows have the same; else None."""
        ...

    def has_nulls(self, name: str) -> bool:
        """Return whether a column holds, or may hold, nulls."""
        ...

    def sample(self, name: str) -> Any:
        """Return some first rows of a column, chunked."""
        ...


class ArrowColumns:
    """Selected columns of a table.

    Args:
        schema: schema of the table.
        spec: the columns to read, and the data set for messages.
        facts: what else is known of the columns; None for nothing.

    Attributes:
        names: names of the columns, in order.
        row_type: type of the only column; by name where there are several.
        decoded_bytes: bytes of the images and the sound of a row, decoded.
        reading: how columns are read, in words, where that is not in their types; for digests.

    Raises:
        InputError: there is no such column, two have one name, or its type is neither numbers, lists of them, nor text.
        UsageError: a column is requested twice, by `::` and by --columns.
    """

    def __init__(self, schema: Any, spec: DataSpec, facts: Facts | None = None) -> None:
        self._what = spec.what
        self._size: Size | Literal["file"] | None = None
        if "@" in spec.inner and spec.inner not in schema.names:
            inner, _, wanted = spec.inner.rpartition("@")
            self._size = "file" if wanted == "file" else size_of(wanted, f"{spec.what}::{spec.inner}")
            spec = replace(spec, inner=inner)
        self._null_is_nan = spec.options.null_is_nan
        self.names = spec.choose(schema.names)
        for name in self.names:
            if schema.names.count(name) > 1:
                raise InputError(
                    f"{spec.what} has {schema.names.count(name)} columns named {name!r}. Save it again with a name for "
                    "each, or choose others with --columns"
                )
        self._settled: list[str] = []
        self.media: dict[str, Pictures | Sounds] = {}
        self._lists = [name for name, kind in spec.options.types.items() if kind == LIST]
        self._plain: dict[str, Any] = {}  # types of columns of tensors
        self._casts: dict[str, Any] = {}
        for name in spec.options.types:
            if name not in schema.names:
                raise no_such(spec.what, name, schema.names)
        self._types: dict[str, RowType] = {}
        for name in self.names:
            kind = plain_field(schema.field(name), spec.what)
            if kind != schema.field(name).type:
                self._plain[name] = kind
            kind = self._given(kind, name, spec)
            if name in spec.options.cells:
                self._types[name] = _kept_type(kind, f"{spec.what}: column {name!r}")
            elif facts is not None and (decoder := _decoder_of(kind, facts.sample(name))):
                self.media[name] = decoder(f"{spec.what}::{name}", facts.sample(name), self._size)
                self._types[name] = self.media[name].row_type
            else:
                self._types[name] = self._type(kind, name, facts)
        if self._size and not self.media:
            raise UsageError(f"{spec.what}: a size is for images, and {', '.join(self.names)} are none")
        if kept := [name for name in spec.keep if name in self.media]:
            raise UsageError(
                f"--keep {', '.join(kept)}: images and sound are kept in .parquet, .feather, .jsonl and .csv alone"
            )
        self.row_type: RowTypes = self._types[self.names[0]] if len(self.names) == 1 else self._types
        self.decoded_bytes = sum(media.row_bytes for media in self.media.values())
        self.reading = f" arrays: {self._settled}" if self._settled else ""
        self.reading += f" images: {self._size}" if self.media else ""

    def _given(self, kind: Any, name: str, spec: DataSpec) -> Any:
        """Return the type that a column is cast to: the one that the user gives, or its own."""
        import pyarrow as pa

        given = spec.options.types.get(name)
        if given is None or (given == LIST and is_list(kind)):
            return kind
        if given == LIST and pa.types.is_fixed_size_list(kind):
            self._casts[name] = pa.list_(kind.value_type)
        elif given == LIST or pa.types.is_nested(kind):
            raise UsageError(f"{self._what}: --types {name}={given} does not go with its type, {kind}")
        elif pa.type_for_alias(given) != kind:
            self._casts[name] = pa.type_for_alias(given)
        return self._casts.get(name, kind)

    def rows(self, table: Any, first: int) -> Rows:
        """Convert a table to rows.

        Args:
            table: table with columns of these names and types.
            first: number of its first row, for messages.

        Raises:
            InputError: it contains a null, or a list of another length than the others.
        """
        columns = {name: self._column(table, name, first) for name in self.names}
        return columns[self.names[0]] if len(self.names) == 1 else columns

    def _type(self, kind: Any, name: str, facts: Facts | None) -> RowType:
        import pyarrow as pa

        whole = kind
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if is_text(kind):
            return RowType(RAGGED, TEXT)
        shape: tuple[int, ...] = ()
        while pa.types.is_fixed_size_list(kind):
            shape = (*shape, kind.list_size)
            kind = kind.value_type
        if not shape and is_list(kind):
            shape = (facts and name not in self._lists and facts.shape(name)) or RAGGED
            for _ in shape:
                kind = kind.value_type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise InputError(
                f"{self._what}: column {name!r} is of type {whole}; rows must be numbers, lists of them, or text. "
                "Choose other columns with --columns; --keep passes columns of any type to .parquet, .feather, "
                ".jsonl and .csv"
            )
        dtype: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
        check_dtype(dtype, f"{self._what}, column {name},")
        if self._null_is_nan and dtype.kind in "iu" and facts is not None and facts.has_nulls(name):
            dtype = np.dtype(np.float64)
        if is_list(whole) and shape != RAGGED:
            self._settled.append(name)
        return RowType(shape, dtype)

    def _column(self, table: Any, name: str, first: int) -> Column:
        import pyarrow as pa

        row_type = self._types[name]
        chunked = as_plain(table.column(name), self._plain[name]) if name in self._plain else table.column(name)
        column = pa.concat_arrays(chunked.chunks) if chunked.num_chunks else pa.array([], chunked.type)
        if name in self._casts:
            try:
                column = column.cast(self._casts[name])
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                place = row_range(first, first + len(column))
                raise InputError(f"{self._what}: {place} of column {name!r}: {describe(error)}") from error
        if name in self.media:
            return self.media[name].column(column, first)
        if cell_name(row_type.dtype):
            return to_cells(column, row_type.dtype)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        may_be_nan = self._null_is_nan and row_type.dtype.kind == "f"
        if column.null_count and not (may_be_nan and not row_type.shape):
            where = first + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            is_number = row_type.dtype.kind in "iuf" and not row_type.shape and not self._null_is_nan
            raise InputError(
                f"{self._what}: row {where} of column {name!r} is null. {NAN_ADVICE if is_number else _NULL_ADVICE}"
            )
        if row_type.dtype == TEXT:
            column = column.cast(pa.large_string())
            offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
            data = column.buffers()[2]
            values = np.frombuffer(data, TEXT)[offsets[0] : offsets[-1]] if data and len(column) else np.empty(0, TEXT)
            return Ragged(values.copy(), offsets - offsets[0])
        values = column
        for length in row_type.shape:
            if is_list(values.type) and length >= 0:
                self._check_lengths(values, length, name, first, len(column))
            values = values.flatten()
        if values.null_count and not may_be_nan:
            advice = _NULL_ADVICE if self._null_is_nan else NAN_ADVICE
            raise InputError(
                f"{self._what}: a value of column {name!r} in {row_range(first, first + len(column))} is null. {advice}"
            )
        if values.null_count:
            values = values.cast(pa.from_numpy_dtype(row_type.dtype), safe=False).fill_null(float("nan"))
        numbers = np.array(values.to_numpy(zero_copy_only=False), row_type.dtype)
        if row_type.shape != RAGGED:
            return numbers.reshape(len(column), *row_type.shape)
        lengths = column.value_lengths().to_numpy(zero_copy_only=False)
        return Ragged(numbers, np.cumsum([0, *lengths], dtype=np.int64))

    def _check_lengths(self, lists: Any, length: int, name: str, first: int, num_rows: int) -> None:
        """Raise InputError where a list is not as long as the others of its column."""
        import pyarrow.compute as pc

        lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
        others = np.flatnonzero(lengths != length)
        if len(others):
            row = first + int(others[0]) * num_rows // len(lists)
            raise InputError(
                f"{self._what}: row {row} of column {name!r} holds a list of {int(lengths[others[0]])}, where those "
                f"before have {length}. For lists of any length: --types {name}={LIST}"
            )


def _kept_type(kind: Any, what: str) -> RowType:
    """Return the type of a passthrough column; raise InputError where there is none."""
    try:
        return RowType(RAGGED, type_of_cells(kind))
    except ValueError as error:
        raise InputError(f"{what} is {error}. Save it as lists, or without a dictionary") from error


def _decoder_of(kind: Any, sample: Any) -> type[Pictures | Sounds] | None:
    """Return the class that decodes a column; None where it is neither of images nor of sound."""
    if are_sounds(kind, sample):
        return Sounds
    return Pictures if are_pictures(kind, sample) else None
