"""Rows of a Parquet file, read by pyarrow."""

import math
import os
from typing import Any

from runner.core.checksum import checksum_of_text
from runner.core.errors import InputError, describe
from runner.core.urls import is_url
from runner.sources.base import DataSpec
from runner.sources.files import Stream, file_stamp, open_file
from runner.sources.tables.arrow import ArrowColumns
from runner.sources.tables.arrow_types import shape_of_lists
from runner.sources.tables.grouped import GroupedTable

_DECIDING_ROWS = 1000
_SAMPLED_ROWS = 100


class ParquetSource(GroupedTable):
    """Columns of a Parquet file, read by row groups: small ones (a few MiB) suit random access.

    Raises:
        InputError: no such file or column, not a Parquet file, or a column is not of numbers, lists of them or text.
    """

    def __init__(self, spec: DataSpec) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self._path = path = spec.path
        self._remote = open_file(path) if is_url(path) else None
        try:
            self._file = parquet.ParquetFile(
                path if self._remote is None else Stream(self._remote),
                memory_map=False,
                pre_buffer=self._remote is not None,  # one request for adjacent bytes, instead of one for each column
            )
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"{spec.what}: {describe(error)}") from error
        columns = ArrowColumns(self._file.schema_arrow, spec, _Footer(self._file))
        meta = self._file.metadata
        groups = range(meta.num_row_groups)
        super().__init__(spec, columns, [meta.row_group(group).num_rows for group in groups], "row group")
        sizes = [self._group_bytes(group) for group in groups]
        self.check_groups(
            sizes, "Choose fewer columns with --columns, or save it again with smaller ones: row_group_size=100_000"
        )
        self.row_bytes = sum(sizes) // max(1, self.num_rows) + columns.decoded_bytes
        self._size = os.path.getsize(path) if self._remote is None else self._remote.size

    def digest(self) -> str:
        # the footer holds the sizes and, from most writers, the smallest and largest values of each column chunk
        meta = self._file.metadata
        groups = [str(meta.row_group(i).to_dict()) for i in range(meta.num_row_groups)]
        return checksum_of_text(f"{self._columns.names} {self._size} {' '.join(groups)}{self._columns.reading}")

    def stamp(self) -> str:
        return file_stamp(self._path) if self._remote is None else self._remote.stamp()

    def load(self, group: int) -> Any:
        return self._file.read_row_group(group, columns=self._columns.names)

    def _group_bytes(self, group: int) -> int:
        """Return the uncompressed size of the columns in a row group, in bytes."""
        meta = self._file.metadata.row_group(group)
        chunks = [meta.column(index) for index in range(meta.num_columns)]
        names = self._columns.names
        return sum(c.total_uncompressed_size for c in chunks if c.path_in_schema.partition(".")[0] in names)


class _Footer:
    """Facts from the footer of a file and its first rows; see `Facts`."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._meta = file.metadata

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the lengths of lists that all of the first rows have, if as many values are in the file."""
        leaf = self._leaf(name)
        groups = [index for index in range(self._meta.num_row_groups) if self._meta.row_group(index).num_rows]
        if leaf is None or not groups:
            return None
        try:
            batches = self._file.iter_batches(_DECIDING_ROWS, groups[:1], [self._meta.schema.column(leaf).path])
            shape = shape_of_lists(next(batches).column(name))
        except InputError:
            raise
        except Exception:  # a damaged page, which is reported when it is read
            return None
        if not shape:
            return None
        values = nulls = 0
        for index in range(self._meta.num_row_groups):
            chunk = self._meta.row_group(index).column(leaf)
            values += chunk.num_values
            nulls += self._nulls(chunk) or 0
        size = math.prod(shape)
        lacking = self._meta.num_rows * size - values  # a row that is null counts as one value
        rows, rest = divmod(lacking, max(1, size - 1))
        return shape if not rest and 0 <= rows <= nulls else None

    def sample(self, name: str) -> Any:
        import pyarrow as pa

        if not pa.types.is_struct(self._file.schema_arrow.field(name).type):
            return None
        try:
            rows = next(self._file.iter_batches(_SAMPLED_ROWS, columns=[name]), None)
        except InputError:
            raise
        except Exception:  # a damaged page, which is reported when it is read
            return None
        return None if rows is None else pa.chunked_array([rows.column(name)])

    def has_nulls(self, name: str) -> bool:
        leaf = self._leaf(name)
        groups = [self._meta.row_group(index) for index in range(self._meta.num_row_groups)]
        return leaf is None or any(self._nulls(group.column(leaf)) != 0 for group in groups)

    def _leaf(self, name: str) -> int | None:
        """Return the index of the values of a column in the file; None where they are several."""
        schema = self._meta.schema
        paths = [schema.column(index).path for index in range(len(schema))]
        leaves = [index for index, path in enumerate(paths) if path == name or path.startswith(f"{name}.")]
        return leaves[0] if len(leaves) == 1 else None

    def _nulls(self, chunk: Any) -> int | None:
        """Return the number of nulls of a column in a row group; None where it is not recorded."""
        has_count = chunk.is_stats_set and chunk.statistics.has_null_count
        return int(chunk.statistics.null_count) if has_count else None
