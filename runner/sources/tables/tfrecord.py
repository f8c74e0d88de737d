"""Rows of a TFRecord file of `tf.train.Example`s: each feature is a column."""

import itertools
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from runner.core.checksum import checksum_of_text
from runner.core.errors import InputError, describe
from runner.core.imports import import_extra
from runner.data.rows import Rows, take, zero_row
from runner.sources.base import DataSpec
from runner.sources.decompressed import open_text
from runner.sources.files import read_range, sampled_checksum
from runner.sources.tables.arrow import ArrowColumns
from runner.sources.tables.tfrecord_features import FeatureFacts, feature_column, feature_type

_HEAD = struct.Struct("<QI")  # the length of a record, and the checksum of it
_TAIL_BYTES = 4  # the checksum of the record
_BLOCK_BYTES = 1 << 20
_DECIDING_ROWS = 1000
_DECIDING_BYTES = 64 << 20  # or those in so many bytes, where these are fewer
_ADVICE = "Write them with tf.train.Example, or read them by a function: --data package.module:function"


class TFRecordSource:
    """A TFRecord file, whose records are read in place.

    A feature with one value in each of the first 1,000 records is a column of numbers or of text; with several, of
    lists. Bytes are images where the first ones are, text where all of these are UTF-8, else bytes.

    Raises:
        InputError: no such file or feature; a damaged or truncated file; its records are no `tf.train.Example`s.
        UsageError: the library is missing.
    """

    def __init__(self, spec: DataSpec) -> None:
        import_extra("tfrecord", spec.what, "tfrecord")
        import crc32c
        from tfrecord import example_pb2

        self._what = spec.what
        self._crc = crc32c.crc32c
        self._example = example_pb2.Example
        self._file, self._stored = open_text(spec.path)
        self._offsets: np.ndarray | None = None
        features = self._sample(example_pb2.SequenceExample)
        self._types = {name: feature_type(name, features) for name in sorted({n for row in features for n in row})}
        if not self._types:
            raise InputError(f"{spec.what}: its records hold no features. {_ADVICE}")
        table = self._table(features, list(self._types), 0)
        self._columns = ArrowColumns(table.schema, spec, FeatureFacts(table))
        self.row_type = self._columns.row_type

    @property
    def num_rows(self) -> int:
        return len(self._index()) - 1

    def scan(self, part: int, parts: int) -> np.ndarray | None:
        """Return the positions of all records, of the first part alone: there is no way into the middle of a file."""
        return np.fromiter(self._walk(), np.int64) if part == 0 else None

    def use(self, scans: Sequence[Any]) -> None:
        """Take the positions of all records."""
        self._offsets = scans[0]

    def read(self, start: int, stop: int) -> Rows:
        if start >= stop:
            return take(zero_row(self.row_type), [])
        records = self._records(self._index()[start : stop + 1].tolist(), start)
        features = [self._features(record, row) for row, record in enumerate(records, start)]
        return self._columns.rows(self._table(features, self._columns.names, start), start)

    def digest(self) -> str:
        return checksum_of_text(f"{self._columns.names} {sampled_checksum(self._stored)}{self._columns.reading}")

    def stamp(self) -> str:
        return self._stored.stamp()

    def _sample(self, sequences: Any) -> list[Any]:
        """Return the features of the first records, without those that are damaged, which are reported when read.

        Args:
            sequences: the message of records with sequences, which as an Example would seem to lack them.
        """
        found: list[Any] = []
        first_error = None
        row = end = 0
        for row, (begin, end) in enumerate(itertools.pairwise(self._walk())):
            try:
                (record,) = self._records([begin, end], row)
                found.append(self._features(record, row))
            except InputError as error:
                first_error = first_error or error
                continue
            if sequences.FromString(record).feature_lists.feature_list:
                raise InputError(f"{self._what}: row {row} has sequences (tf.train.SequenceExample). {_ADVICE}")
            if len(found) == _DECIDING_ROWS or end > _DECIDING_BYTES:
                break
        if not found:
            raise first_error or InputError(f"{self._what} holds no records")
        self.row_bytes = end // (row + 1)
        return found

    def _index(self) -> np.ndarray:
        if self._offsets is None:
            self.use([self.scan(0, 1)])
        assert self._offsets is not None
        return self._offsets

    def _walk(self) -> Iterator[int]:
        """Yield the position of each record, and that of the end.

        Raises:
            InputError: the file is truncated, damaged, or of another kind.
        """
        position = begin = 0
        block = b""
        while position < self._file.size:
            yield position
            if position + _HEAD.size > begin + len(block):
                begin = position
                block = read_range(self._file, begin, min(self._file.size, begin + _BLOCK_BYTES))
            if len(block) - (position - begin) < _HEAD.size:
                raise InputError(f"{self._what} is truncated: a record begins at byte {position:,} and has no end")
            length, mark = _HEAD.unpack_from(block, position - begin)
            if self._masked(block[position - begin : position - begin + 8]) != mark:
                raise InputError(f"{self._what} is damaged, or no TFRecord file: no record is at byte {position:,}")
            position += _HEAD.size + length + _TAIL_BYTES
        if position > self._file.size:
            raise InputError(f"{self._what} is truncated: its last record ends at byte {position:,}")
        yield position

    def _records(self, offsets: Sequence[int], first: int) -> list[bytes]:
        """Return records; raise InputError where one is damaged.

        Args:
            offsets: their positions, and the end of the last.
            first: number of the first.
        """
        content = read_range(self._file, offsets[0], offsets[-1])
        records = []
        for row, (begin, end) in enumerate(itertools.pairwise(offsets), first):
            record = content[begin - offsets[0] + _HEAD.size : end - offsets[0] - _TAIL_BYTES]
            mark = content[end - offsets[0] - _TAIL_BYTES : end - offsets[0]]
            if self._masked(record) != int.from_bytes(mark, "little"):
                raise InputError(f"{self._what}: row {row} is damaged: its checksum differs")
            records.append(record)
        return records

    def _masked(self, content: bytes) -> int:
        value: int = self._crc(content)
        return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF

    def _features(self, record: bytes, row: int) -> Any:
        try:
            return self._example.FromString(record).features.feature
        except Exception as error:  # of a class that protobuf's implementations do not share
            raise InputError(f"{self._what}: row {row} is no tf.train.Example: {describe(error)}. {_ADVICE}") from error

    def _table(self, rows: Sequence[Any], names: Sequence[str], first: int) -> Any:
        """Return features as a table.

        Args:
            rows: features of each record.
            names: names of those to take.
            first: number of the first record.
        """
        import pyarrow as pa

        columns = [feature_column(rows, name, self._types[name], first, self._what) for name in names]
        return pa.table(columns, names=list(names))
