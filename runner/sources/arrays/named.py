"""Arrays by name in one file or folder, as columns with the same number of rows."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from runner.core.checksum import checksum_of_text
from runner.core.errors import InputError
from runner.core.text import listed
from runner.data.rows import (
    TEXT,
    Column,
    Ragged,
    Rows,
    RowType,
    RowTypes,
    concatenate_columns,
    describe_type,
    ragged_text,
    rows_checksum,
    slice_column,
    take_column,
    zero_row,
)

_HELD_BYTES = 1 << 30  # the most decoded bytes of the chunks that are kept, of all arrays together
_WHOLE_BYTES = 16 << 20  # up to this size an array is digested completely
_SAMPLE_BYTES, _SAMPLED_BYTES = 64 << 10, 64 << 20  # of each sample, and of all samples, decoded
_FEWEST_SAMPLES, _MOST_SAMPLES = 4, 64


class Array(Protocol):
    """An array whose first axis is the rows; like a `Source`, but with one column and without a file of its own."""

    @property
    def num_rows(self) -> int: ...
    @property
    def row_type(self) -> RowType: ...
    @property
    def row_bytes(self) -> int: ...
    def read(self, start: int, stop: int) -> Column: ...


class NamedSource:
    """The arrays of a file.

    Args:
        path: path of the file.
        arrays: the arrays by name, at least one.

    Raises:
        InputError: their numbers of rows differ.
    """

    def __init__(self, path: str, arrays: Mapping[str, Array]) -> None:
        self._path = path
        self._arrays = arrays
        counts = {name: array.num_rows for name, array in arrays.items()}
        if len(set(counts.values())) > 1:
            raise InputError(
                f"--data {path}: arrays that are read together must have equally many rows; these have "
                f"{', '.join(f'{name}: {count}' for name, count in counts.items())}. Choose some with --columns"
            )
        self.num_rows = next(iter(counts.values()))
        types = {name: array.row_type for name, array in arrays.items()}
        self.row_type: RowTypes = types if len(types) > 1 else next(iter(types.values()))
        self.row_bytes = sum(array.row_bytes for array in arrays.values())

    def read(self, start: int, stop: int) -> Rows:
        columns = {name: array.read(start, stop) for name, array in self._arrays.items()}
        return columns if len(columns) > 1 else next(iter(columns.values()))

    def digest_of_samples(self, chunk_rows: int) -> str:
        """Return a digest of sampled rows, or of all where they are few; unreadable rows are digested as such.

        Args:
            chunk_rows: number of rows that are decoded together.
        """
        length = max(1, min(self.num_rows, _SAMPLE_BYTES // max(1, self.row_bytes)))
        if self.num_rows * self.row_bytes <= _WHOLE_BYTES:
            starts = list(range(0, self.num_rows, length))
        else:
            decoded = max(length, chunk_rows) * self.row_bytes
            samples = min(_MOST_SAMPLES, max(_FEWEST_SAMPLES, _SAMPLED_BYTES // decoded))
            starts = [(self.num_rows - length) * sample // (samples - 1) for sample in range(samples)]
        digests = [f"{self.num_rows} {', '.join(self._arrays)} {describe_type(self.row_type)}"]
        for start in starts:
            try:
                digests.append(rows_checksum(self.read(start, min(self.num_rows, start + length))))
            except InputError:  # a bad row, which may be set aside later
                digests.append("unreadable")
        return checksum_of_text(" ".join(digests))


class ByChunks:
    """An array whose rows are compressed in chunks; the latest chunk that was read in part is kept.

    Args:
        array: the array.
        chunk_rows: number of rows of a chunk.
        lock: held while the array is read.
        num_arrays: number of arrays that are read together and share the memory for chunks.
    """

    def __init__(self, array: Array, chunk_rows: int, lock: threading.Lock, num_arrays: int) -> None:
        self._array = array
        self._lock = lock
        self.num_rows = array.num_rows
        self.row_type = array.row_type
        self.row_bytes = array.row_bytes
        # with chunks too large to keep, each read decodes the chunk again
        self.chunk_rows = chunk_rows if chunk_rows * self.row_bytes * num_arrays <= _HELD_BYTES else 1
        self._held: tuple[int, Column] | None = None

    def read(self, start: int, stop: int) -> Column:
        if start >= stop:
            return take_column(one_row(self.row_type), [])
        parts = []
        with self._lock:
            while start < stop:
                first = start - start % self.chunk_rows
                last = min(first + self.chunk_rows, self.num_rows)
                if stop >= last and not self._holds(first):  # all complete chunks at once, without keeping any
                    end = stop if stop == self.num_rows else stop - stop % self.chunk_rows
                    parts.append(self._array.read(start, end))
                else:
                    end = min(stop, last)
                    parts.append(slice_column(self._chunk(first, last), start - first, end - first))
                start = end
        return parts[0] if len(parts) == 1 else concatenate_columns(parts)

    def _holds(self, first: int) -> bool:
        return self._held is not None and self._held[0] == first

    def _chunk(self, first: int, last: int) -> Column:
        if self._held is None or self._held[0] != first:
            self._held = None  # frees its memory before the next chunk is read
            self._held = first, self._array.read(first, last)
        return self._held[1]


def the_only(path: str, names: Sequence[str], word: str) -> list[str]:
    """Return the only name, in a list.

    Raises:
        InputError: there are several, or none.
    """
    if not names:
        raise InputError(f"--data {path} holds no {word}")
    if len(names) > 1:
        raise InputError(
            f"--data {path} has several {word}s: {listed(names)}. "
            f"Choose one with {path}::NAME, or several with --columns"
        )
    return list(names)


def one_row(row_type: RowType) -> Column:
    """Return a row of zeros of one column."""
    row = zero_row(row_type)
    assert not isinstance(row, dict)
    return row


def text_of(values: np.ndarray) -> Ragged:
    """Convert text to variable-length rows.

    Args:
        values: 1-D, of fixed or variable length, UTF-8 bytes or str.

    Raises:
        UnicodeEncodeError: a str has no UTF-8 form.
    """
    if values.dtype.kind == "S":
        width = values.dtype.itemsize
        lengths = np.char.str_len(values)
        table = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), width)
        kept = table[np.arange(width) < lengths[:, None]]
        return Ragged(kept.view(TEXT), np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))
    items: list[Any] = values.tolist()
    if any(isinstance(item, bytes) for item in items):
        offsets = np.concatenate([[0], np.cumsum([len(item) for item in items], dtype=np.int64)])
        return Ragged(np.frombuffer(b"".join(items), TEXT).copy(), offsets)
    return ragged_text(items)
