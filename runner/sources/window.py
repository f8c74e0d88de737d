"""A range of consecutive rows of a data set."""

from runner.core.checksum import checksum_of_text
from runner.data.rows import Rows
from runner.sources.base import Source


class WindowSource:
    """The rows of a data set after the first `skip`, at most `limit` of them; numbered from 0 again.

    Args:
        source: the data set.
        skip: number of rows to skip.
        limit: the most rows; None for no limit.
    """

    def __init__(self, source: Source, skip: int, limit: int | None) -> None:
        self._source = source
        self._first = min(skip, source.num_rows)
        rest = source.num_rows - self._first
        self.num_rows = rest if limit is None else min(limit, rest)
        self.row_type = source.row_type
        self.row_bytes = source.row_bytes

    def read(self, start: int, stop: int) -> Rows:
        return self._source.read(self._first + start, self._first + stop)

    def digest(self) -> str:
        return checksum_of_text(f"{self._source.digest()} {self._first} {self.num_rows}")

    def stamp(self) -> str:
        return self._source.stamp()
