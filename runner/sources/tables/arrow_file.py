"""Rows of an Arrow IPC file, or of Feather, its other name, read by pyarrow.

Through a memory map, unlike other files: Polars and pyarrow write a whole table as one batch if they are let.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from runner.core.checksum import checksum_of_text
from runner.core.errors import InputError, describe
from runner.core.urls import is_url
from runner.sources.base import DataSpec, check_decoded
from runner.sources.files import LocalFile, read_range, sampled_checksum
from runner.sources.tables.arrow import ArrowColumns
from runner.sources.tables.arrow_layout import Layout
from runner.sources.tables.arrow_types import shape_of_lists
from runner.sources.tables.grouped import GroupedTable

_DECIDING_ROWS = 1000
_SAMPLED_ROWS = 100
_FILE = b"ARROW1"
_FEATHER_1 = b"FEA1"
_SMALLER = "Save it again with smaller ones: pyarrow.feather.write_feather(..., chunksize=10_000)"
_WRITE = "pyarrow.feather.write_feather(table, 'rows.feather')"


class ArrowFileSource(GroupedTable):
    """Columns of an Arrow IPC file, read by record batches: compressed ones are decoded as a whole, others mapped.

    Raises:
        InputError: no such file or column, another format of Arrow, a damaged file, or a column is not of numbers,
            lists of them or text.
    """

    def __init__(self, spec: DataSpec) -> None:
        import pyarrow as pa

        if is_url(spec.path):
            raise InputError(f"{spec.what}: Arrow is read from local files alone; copy it to one, or write Parquet")
        self._file = LocalFile(spec.path)
        self._what = spec.what
        _check_format(self._file, spec.what)
        try:
            self._source = pa.memory_map(spec.path)
            self._schema = pa.ipc.open_file(self._source).schema
            self._layout = Layout(self._source)
            dictionaries = self._layout.bytes_of_dictionaries()
        except (OSError, pa.ArrowException, ValueError) as error:
            raise InputError(f"{spec.what} is damaged: {describe(error)}") from error
        check_decoded(dictionaries, spec.what, "categories", "Save them as text")
        self._fields: list[int] = []
        columns = ArrowColumns(self._schema, spec, _Metadata(self._layout, self._schema, self._table))
        super().__init__(spec, columns, self._layout.rows, "record batch")
        self._nested = [name for name in columns.names if _is_nested(self._schema.field(name).type)]
        self.row_bytes = columns.decoded_bytes
        if self.num_rows:
            largest = int(np.argmax(self._layout.rows))
            self._check_size(largest)
            self.row_bytes += self._chosen_bytes(largest) // self._layout.rows[largest]

    def digest(self) -> str:
        return checksum_of_text(f"{self._columns.names} {sampled_checksum(self._file)}{self._columns.reading}")

    def stamp(self) -> str:
        return self._file.stamp()

    def load(self, group: int) -> Any:
        table = self._table(group, self._columns.names)
        for name in self._nested:  # once: what is inside of them is checked as a whole, however few rows are read
            table.column(name).validate(full=True)
        return table

    def check(self, part: Any) -> None:
        self._file.check_length()
        # pyarrow takes offsets, indices and text as they are in the file
        for name in self._columns.names:
            if name not in self._nested:
                part.column(name).validate(full=True)

    def _table(self, group: int, names: Sequence[str]) -> Any:
        """Return columns of a record batch."""
        import pyarrow as pa

        self._file.check_length()
        self._check_size(group)
        fields = sorted(self._schema.get_field_index(name) for name in names)
        if fields != self._fields:
            options = pa.ipc.IpcReadOptions(included_fields=fields)
            self._reader = pa.ipc.open_file(self._source, options=options)
            self._fields = fields
        batch = self._reader.get_batch(group)
        batch.validate()
        if batch.num_rows != self._layout.rows[group]:
            raise ValueError(f"it has {batch.num_rows} rows, not {self._layout.rows[group]}")
        return pa.Table.from_batches([batch])

    def _check_size(self, group: int) -> None:
        """Raise InputError where a batch would take too much memory when decoded."""
        if self._layout.is_compressed:
            try:
                size = sum(self._layout.bytes_of(group).tolist())
            except (OSError, ValueError) as error:
                raise InputError(f"{self._what}: record batch {group} cannot be read: {describe(error)}") from error
            check_decoded(size, self._what, "record batches", _SMALLER)

    def _chosen_bytes(self, group: int) -> int:
        """Return the bytes of the chosen columns in a batch, decoded; of all where it is not known which are whose."""
        sizes = self._layout.bytes_of(group)
        counts = [_num_buffers(field.type) for field in self._schema]
        if sum(counts) != len(sizes):
            return int(sizes.sum())
        parts = np.split(sizes, np.cumsum(counts)[:-1])
        chosen = self._columns.names
        return sum(int(part.sum()) for field, part in zip(self._schema, parts, strict=True) if field.name in chosen)


class _Metadata:
    """Facts from the metadata of a file and its first rows; see `Facts`.

    Args:
        layout: the metadata.
        schema: the schema.
        table: returns columns of a batch.
    """

    def __init__(self, layout: Layout, schema: Any, table: Callable[[int, Sequence[str]], Any]) -> None:
        self._schema, self._table = schema, table
        self._nodes = layout.nodes
        self._first = next((index for index, count in enumerate(layout.rows) if count), None)
        counts = [_num_nodes(field.type) for field in schema]
        self._places = dict(zip(schema.names, np.cumsum([0, *counts]).tolist(), strict=False))
        if self._nodes is not None and sum(counts) != len(self._nodes):
            self._nodes = None

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the lengths of lists that all of the first rows have, if as many values are in the file."""
        sample = self._rows(name, _DECIDING_ROWS)
        if sample is None or self._nodes is None or not (shape := shape_of_lists(sample)):
            return None
        place = self._places[name]
        rows, nulls = self._nodes[place]
        values, _ = self._nodes[place + len(shape)]
        return shape if values == (rows - nulls) * math.prod(shape) else None

    def sample(self, name: str) -> Any:
        import pyarrow as pa

        return self._rows(name, _SAMPLED_ROWS) if pa.types.is_struct(self._schema.field(name).type) else None

    def has_nulls(self, name: str) -> bool:
        place = self._places[name]
        inside = slice(place, place + _num_nodes(self._schema.field(name).type))
        return self._nodes is None or bool(self._nodes[inside, 1].any())

    def _rows(self, name: str, count: int) -> Any:
        if self._first is None:
            return None
        try:
            column = self._table(self._first, [name]).column(name).slice(0, count)
            column.validate(full=True)
        except InputError:
            raise
        except Exception:  # a damaged batch, which is reported when it is read
            return None
        return column


def _check_format(file: LocalFile, what: str) -> None:
    """Raise InputError for what is no complete Arrow file; pyarrow's words for these are all the same."""
    import pyarrow as pa

    beginning = read_range(file, 0, min(file.size, len(_FILE)))
    if beginning == _FILE:
        if read_range(file, file.size - len(_FILE), file.size) != _FILE:
            raise InputError(f"{what} is truncated: an Arrow file ends with {_FILE.decode()}, as it begins")
        return
    if beginning.startswith(_FEATHER_1):
        raise InputError(f"{what} is of version 1 of Feather. Save it again: {_WRITE}, of pyarrow.feather.read_table()")
    try:
        pa.ipc.open_stream(file.path).close()
    except (OSError, pa.ArrowException):
        raise InputError(f"{what} is no Arrow file: it does not begin with {_FILE.decode()}") from None
    raise InputError(
        f"{what} is a stream of Arrow, whose rows cannot be read in place (of Datasets, give the folder of "
        f"save_to_disk). Save it again: {_WRITE}, of pyarrow.ipc.open_stream({file.path!r}).read_all()"
    )


def _is_nested(kind: Any) -> bool:
    import pyarrow as pa

    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    return bool(pa.types.is_nested(kind) or pa.types.is_dictionary(kind))


def _num_nodes(kind: Any) -> int:
    """Return the number of columns that a column of a type is made of, itself included."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        return _num_nodes(kind.storage_type)
    return 1 + sum(_num_nodes(kind.field(index).type) for index in range(kind.num_fields))


def _num_buffers(kind: Any) -> int:
    """Return the number of buffers of a column of a type; 0 where Arrow does not tell."""
    import pyarrow as pa

    if pa.types.is_null(kind):
        return 0
    try:
        return len(pa.array([], kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind).buffers())
    except (pa.ArrowException, TypeError, NotImplementedError):
        return 0
