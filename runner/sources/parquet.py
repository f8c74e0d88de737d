"""Rows of one column of a Parquet file, by pyarrow: numbers, lists of one length, or lists of unlike lengths."""

import os
import threading
from typing import Any

import numpy as np

from runner.checksum import checksum_of_text
from runner.errors import InputError, UsageError, describe
from runner.rows import Ragged, Rows
from runner.sources import RAGGED, check_dtype, file_stamp


class ParquetSource:
    """A column of a Parquet file; `PATH::COLUMN`, or PATH where there is one column.

    It is read by row groups, of which the latest is kept in memory: small ones (some MiB) suit random access.

    Raises:
        UsageError: pyarrow is missing.
        InputError: no such file or column, not a Parquet file, or a type that is not numbers or lists of them.
    """

    def __init__(self, data: str) -> None:
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError as error:
            raise UsageError(
                f"--data {data}: reading Parquet needs pyarrow: pip install 'horovod-inference-runner[parquet]'"
            ) from error
        self._path, _, column = data.partition("::")
        try:
            self._file = parquet.ParquetFile(self._path, memory_map=False)
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"--data {self._path}: {describe(error)}") from error
        names = self._file.schema_arrow.names
        if column not in names and (column or len(names) != 1):
            named = f"has no column {column!r}" if column else f"has {len(names)} columns"
            raise InputError(f"--data {self._path} {named}; choose with ::COLUMN one of {', '.join(names)}")
        self._column = column or names[0]
        kind = self._file.schema_arrow.field(self._column).type
        self.row_shape: tuple[int, ...] = ()
        if pa.types.is_fixed_size_list(kind):
            self.row_shape, kind = (kind.list_size,), kind.value_type
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            self.row_shape, kind = RAGGED, kind.value_type
        try:
            self.dtype: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
        except NotImplementedError:
            self.dtype = np.dtype(object)
        check_dtype(self.dtype, f"--data {self._path}, column {self._column},")
        meta = self._file.metadata
        self.num_rows: int = meta.num_rows
        self._starts = np.cumsum([0, *(meta.row_group(i).num_rows for i in range(meta.num_row_groups))])
        self.row_bytes = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
        self.row_bytes //= max(1, self.num_rows)
        self._lock = threading.Lock()  # the reader's thread and the search for bad rows share the file
        self._group, self._at_hand = -1, None

    def read(self, start: int, stop: int) -> Rows:
        import pyarrow as pa

        parts = []
        with self._lock:
            first, last = np.searchsorted(self._starts, [start, stop - 1], side="right") - 1
            for group in range(first, last + 1):
                group_start, group_stop = self._starts[group : group + 2]
                begin, end = max(start, group_start), min(stop, group_stop)
                parts.append(self._read_group(group).slice(begin - group_start, end - begin))
        column = pa.concat_arrays([chunk for part in parts for chunk in part.chunks])
        if column.null_count:
            where = start + np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))
            raise InputError(f"--data {self._path}: row {where[0]} of column {self._column} is null")
        values = column.flatten() if self.row_shape else column
        if values.null_count:
            raise InputError(f"--data {self._path}: a value of column {self._column} in rows {start}..{stop} is null")
        numbers = np.array(values.to_numpy(zero_copy_only=False), self.dtype)
        if self.row_shape == RAGGED:
            lengths = column.value_lengths().to_numpy(zero_copy_only=False)
            return Ragged(numbers, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))
        return numbers.reshape(stop - start, *self.row_shape)

    def digest(self) -> str:
        # the footer holds the sizes and, by most writers, the smallest and largest values of each column chunk
        meta = self._file.metadata
        groups = [str(meta.row_group(i).to_dict()) for i in range(meta.num_row_groups)]
        return checksum_of_text(f"{self._column} {os.path.getsize(self._path)} {' '.join(groups)}")

    def stamp(self) -> str:
        return file_stamp(self._path)

    def _read_group(self, group: int) -> Any:
        if group != self._group:
            try:
                self._at_hand = self._file.read_row_group(group, columns=[self._column]).column(0)
            except Exception as error:  # a damaged page raises one of many kinds
                raise InputError(f"--data {self._path}: row group {group} cannot be read: {describe(error)}") from error
            self._group = group
        return self._at_hand
