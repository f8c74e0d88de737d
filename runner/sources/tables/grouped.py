"""Tables whose rows lie in groups, each read as a whole: what Parquet and Arrow files have in common."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from runner.core.errors import InputError, describe
from runner.data.rows import Rows, RowType, RowTypes, take, zero_row
from runner.sources.base import DataSpec, check_decoded
from runner.sources.tables.arrow import ArrowColumns

_OFFSET_BYTES = 8  # what an empty list or text takes in memory


class GroupedTable:
    """Columns of a file, read by groups of rows; the latest group is kept in memory.

    Args:
        spec: the data set.
        columns: its columns.
        group_rows: number of rows of each group.
        word: what the format calls such a group.
    """

    def __init__(self, spec: DataSpec, columns: ArrowColumns, group_rows: Sequence[int], word: str) -> None:
        self._what = spec.what
        self._columns = columns
        self._word = word
        self.row_type: RowTypes = columns.row_type
        self._starts = np.cumsum([0, *group_rows])
        self.num_rows = int(self._starts[-1])
        self._lock = threading.Lock()  # the reader's thread and the search for bad rows share the file
        self._group = -1
        self._at_hand: Any = None

    def read(self, start: int, stop: int) -> Rows:
        import pyarrow as pa

        if start >= stop:
            return take(zero_row(self.row_type), [])
        parts = []
        with self._lock:
            first, last = np.searchsorted(self._starts, [start, stop - 1], side="right") - 1
            for group in range(first, last + 1):
                group_start, group_stop = self._starts[group : group + 2]
                begin = max(start, group_start)
                end = min(stop, group_stop)
                parts.append(self._part(group, begin - group_start, end - begin))
        return self._columns.rows(pa.concat_tables(parts), start)

    def load(self, group: int) -> Any:
        """Return the columns of a group as a table."""
        raise NotImplementedError

    def check(self, part: Any) -> None:
        """Raise an exception where rows of a group are damaged, and loading it does not tell."""

    def check_groups(self, sizes: Sequence[int], advice: str) -> None:
        """Raise InputError where a group would take too much memory; repeated values take little in the file.

        Args:
            sizes: bytes of the columns of each group, as far as the file tells.
            advice: how to write the data with smaller ones.
        """
        types = [self.row_type] if isinstance(self.row_type, RowType) else self.row_type.values()
        least_bytes = -self._columns.decoded_bytes  # images are not decoded with their group
        least_bytes += sum(_OFFSET_BYTES if row_type.is_ragged else row_type.row_bytes for row_type in types)
        largest = max((int(rows) for rows in np.diff(self._starts)), default=0) * least_bytes
        check_decoded(max([largest, *sizes]), self._what, f"{self._word}s", advice)

    def _part(self, group: int, first: int, count: int) -> Any:
        try:
            if group != self._group:
                self._at_hand = self.load(group)
                self._group = group
            part = self._at_hand.slice(first, count)
            self.check(part)
        except InputError:  # the storage failed
            raise
        except Exception as error:  # a damaged page raises one of many exception types
            raise InputError(f"{self._what}: {self._word} {group} cannot be read: {describe(error)}") from error
        return part
