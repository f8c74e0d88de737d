"""Assembly of a chunk: predictions batch by batch, in the order of the data, with the fill value for bad rows."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Protocol

import numpy as np

from runner.chunks.commit import Commit
from runner.chunks.grid import Chunk
from runner.core.checksum import checksum
from runner.data.columns import Columns, fill, nonfinite, pack, without
from runner.data.outputs import Outputs, as_columns, check_row_type, copy_out
from runner.data.rows import Column, RowType, RowTypes, concatenate_columns, span, take_column, zero_row
from runner.engine.kept import Unread, as_json
from runner.engine.reader import chunk_checksum
from runner.engine.recovery import BadRow, RecoveredBatch
from runner.engine.texts import Cut

_FillValues = Sequence[int]
_Places = slice | np.ndarray


class ChunkBuilder:
    """Builder of one chunk: its predictions and its record.

    Args:
        chunk: the chunk.
        row_type: type of a row of predictions, with the passthrough columns.
        kept: names of the passthrough columns.
    """

    def __init__(self, chunk: Chunk, row_type: RowTypes, kept: Sequence[str]) -> None:
        self._chunk = chunk
        self._kept = kept
        self._row_type = row_type
        num_rows = chunk.stop - chunk.start
        self._rows: _Rows = _Fixed(num_rows, row_type) if isinstance(row_type, RowType) else _Packed(num_rows, row_type)
        self._bad: list[BadRow] = []
        self._split_batches: list[list[int]] = []
        self._unread: dict[int, Collection[str]] = {}
        self._cut = Cut()
        self._input_checksums: list[str] = []

    def add(
        self,
        ids: Sequence[int],
        batch: RecoveredBatch,
        outputs: Outputs | None,
        kept: Columns,
        unread: Unread,
        digest: str | None,
    ) -> None:
        """Add a batch to the chunk.

        Args:
            ids: numbers of its rows.
            batch: the result of the batch, with its bad and cut rows.
            outputs: its predictions; None where all rows are bad.
            kept: its passthrough columns.
            unread: what of these could not be read.
            digest: see `Part.checksum`.

        Raises:
            ModelError: the predictions are of another type than those of the first row.
        """
        if outputs is not None:
            check_row_type(outputs, self._row_type, self._kept, ids)
        start = self._chunk.start
        if isinstance(ids, range):
            places: _Places = slice(ids.start - start, ids.stop - start)
        else:
            places = np.asarray(ids) - start
        self._rows.put(places, outputs, kept)
        self._bad += batch.bad
        self._unread |= unread
        if batch.is_split:
            self._split_batches.append(list(span(ids)))
        self._cut = self._cut.joined(batch.cut)
        if digest is not None:
            self._input_checksums.append(digest)

    def finish(self, rank: int, began: float, seconds: float, on_nonfinite: str) -> tuple[Commit, np.ndarray]:
        """Return the record of the chunk, and its predictions: `(rows, ...)`, or packed as 1-D uint8."""
        chunk = self._chunk
        nonfinite_rows = self._rows.nonfinite(self._kept) - {row.row - chunk.start for row in self._bad}
        if on_nonfinite == "quarantine":
            self._bad += [BadRow(chunk.start + row, "the prediction is not finite", "") for row in nonfinite_rows]
            nonfinite_rows = set()
        rows = self._rows.finish([row.row - chunk.start for row in self._bad], self._kept)
        kept = self._rows.kept(self._kept)
        self._bad += [BadRow(row, why, "") for row, why in self._cut.refused.items()]  # whose predictions tell it
        self._bad.sort(key=lambda row: row.row)
        records = []
        for row in self._bad:
            values = as_json(kept, row.row - chunk.start, self._unread.get(row.row, ()))
            records.append(asdict(row) | ({"kept": values} if kept else {}))
        bad = {row.row for row in self._bad}
        lost = [number for row, number in self._cut.lost.items() if row not in bad]
        commit = Commit(
            chunk=chunk.index,
            start=chunk.start,
            stop=chunk.stop,
            checksum=checksum(rows),
            inputs=chunk_checksum(self._input_checksums) if all(self._input_checksums) else "",
            rank=rank,
            seconds=round(seconds, 6),
            began=round(began, 6),
            nonfinite=len(nonfinite_rows),
            bad=records,
            halved=self._split_batches,
            cut_rows=len(lost),
            cut_tokens=sum(lost),
            token_limit=self._cut.limit if lost else 0,
            counts={
                name: sum(number for row, number in by_row.items() if row not in bad)
                for name, by_row in self._cut.counts.items()
            },
        )
        return commit, rows


class _Rows(Protocol):
    def put(self, places: _Places, outputs: Outputs | None, kept: Columns) -> None: ...
    def nonfinite(self, kept: Sequence[str]) -> set[int]: ...
    def finish(self, fill_values: _FillValues, kept: Sequence[str]) -> np.ndarray: ...
    def kept(self, names: Sequence[str]) -> Columns: ...


class _Fixed:
    """Rows of fixed shape: each batch goes to its place at once."""

    def __init__(self, num_rows: int, row_type: RowType) -> None:
        self._rows = np.empty((num_rows, *row_type.shape), row_type.dtype)

    def put(self, places: _Places, outputs: Outputs | None, kept: Columns) -> None:
        for name, column in kept.items():
            self._rows[name][places] = column
        if outputs is None:
            return
        if isinstance(places, slice):
            copy_out(outputs, self._rows[places])
        elif kept:
            for name, column in as_columns(outputs).items():
                self._rows[name][places] = column
        else:
            rows = np.empty((len(places), *self._rows.shape[1:]), self._rows.dtype)
            copy_out(outputs, rows)
            self._rows[places] = rows

    def nonfinite(self, kept: Sequence[str]) -> set[int]:
        if not kept:
            return nonfinite({"": self._rows})
        return nonfinite({name: self._rows[name].copy() for name in self._names() if name not in kept})

    def finish(self, fill_values: _FillValues, kept: Sequence[str]) -> np.ndarray:
        if not kept:
            fill(self._rows, fill_values)
        for name in self._names() if kept else ():
            if name not in kept:
                fill(self._rows[name], fill_values)
        return self._rows

    def kept(self, names: Sequence[str]) -> Columns:
        return {name: self._rows[name] for name in names}

    def _names(self) -> Sequence[str]:
        return self._rows.dtype.names or ()


class _Packed:
    """Variable-length rows: batches are put in order at the end."""

    def __init__(self, num_rows: int, row_type: Mapping[str, RowType]) -> None:
        self._num_rows = num_rows
        self._row_type = row_type
        self._places: list[np.ndarray] = []
        self._batches: list[Columns] = []
        self._columns: Columns | None = None

    def put(self, places: _Places, outputs: Outputs | None, kept: Columns) -> None:
        batch = dict(kept)
        numbers = np.arange(self._num_rows)[places]
        if outputs is not None:
            batch |= as_columns(outputs)
        else:
            nothing = {name: row_type for name, row_type in self._row_type.items() if name not in kept}
            batch |= {name: take_column(_zero(row_type), [0] * len(numbers)) for name, row_type in nothing.items()}
        self._places.append(numbers)
        self._batches.append(batch)

    def nonfinite(self, kept: Sequence[str]) -> set[int]:
        return nonfinite(without(self._in_order(), kept))

    def finish(self, fill_values: _FillValues, kept: Sequence[str]) -> np.ndarray:
        columns = self._in_order()
        return pack({name: c if name in kept else fill(c, fill_values) for name, c in columns.items()})

    def kept(self, names: Sequence[str]) -> Columns:
        return {name: self._in_order()[name] for name in names} if names else {}

    def _in_order(self) -> Columns:
        if self._columns is None:
            order = np.argsort(np.concatenate(self._places), kind="stable")
            self._columns = {
                name: take_column(concatenate_columns([batch[name] for batch in self._batches]), order)
                for name in self._row_type
            }
            self._batches.clear()
        return self._columns


def _zero(row_type: RowType) -> Column:
    column = zero_row(row_type)
    assert not isinstance(column, dict)
    return column
