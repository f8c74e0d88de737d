"""Recovery of a batch that fails: bad rows, or out of memory. Knows nothing of ranks or files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runner.core.errors import ChunkError, InputError, MemoryShortage, ModelError, UnlikeLengths
from runner.data.outputs import Outputs, join, on_cpu
from runner.data.rows import Rows, concatenate, name_rows
from runner.engine.predictor import Predictor
from runner.engine.texts import Cut
from runner.sources import Source

_TRACEBACK_LINES = 6


@dataclass(frozen=True)
class BadRow:
    """A bad row: it fails by itself, too, or its prediction is not finite."""

    row: int
    error: str
    traceback: str


@dataclass(frozen=True)
class RecoveredBatch:
    """Result of a batch; for one that failed at first, after recovery.

    Attributes:
        outputs: its predictions, with those of a good row in place of bad ones; None where all rows are bad.
        bad: its bad rows.
        is_split: whether it was computed in smaller pieces, because it ran out of memory.
        cut: its rows whose text was cut; entries of bad rows have no meaning.
    """

    outputs: Outputs | None
    bad: list[BadRow]
    is_split: bool
    cut: Cut = Cut()


class BatchRecovery:
    """Recovery of failed batches: splits a batch that runs out of memory, and finds bad rows by bisection.

    Finding k bad rows of n takes about `1.5 k log2(n / k)` calls of the model. A batch that does not fit the memory of
    the device is halved until the pieces fit.

    Args:
        source: the data set.
        predictor: computes a batch.
        known_good_row: a row that has worked before; None where there was none.
        set_aside: go on without the bad rows; else raise the error of the first bad row.
    """

    def __init__(self, source: Source, predictor: Predictor, known_good_row: int | None, set_aside: bool) -> None:
        self._source = source
        self._predictor = predictor
        self._known_good_row = known_good_row
        self._sets_aside = set_aside
        self._is_split = False
        self._cut = Cut()  # of the last computation

    def __call__(self, ids: Sequence[int], error: InputError) -> RecoveredBatch:
        """Return the predictions of the rows `ids`, which have failed together with `error`.

        Raises:
            InputError: `error` itself, if the rows work one by one and it is not about other rows of their chunk; the
                error of the first bad row, if none may be set aside; an error that says so, if even the known good row
                fails now.
        """
        rows, unreadable = self._read(ids)
        if isinstance(error, MemoryShortage):
            try:
                self._cut = Cut()
                return RecoveredBatch(self._compute(rows, ids), [], True, self._cut)
            except InputError as again:
                error = again
        if self._sets_aside:
            return self._without_the_bad(ids, rows, unreadable, error)
        for row, why in self._search(sorted(rows), rows, surely=not unreadable):
            unreadable[row] = why
            break
        if unreadable:
            raise unreadable[min(unreadable)]
        return self._with_all(ids, rows, error)

    def _with_all(self, ids: Sequence[int], rows: dict[int, Rows], error: InputError) -> RecoveredBatch:
        """Compute rows that all work one by one; raise `error` unless it is about other rows of their chunk."""
        if not isinstance(error, ChunkError):
            raise error
        self._is_split, self._cut = False, Cut()
        outputs = self._compute(rows, ids)
        return RecoveredBatch(outputs, [], self._is_split, self._cut)

    def _without_the_bad(
        self, ids: Sequence[int], rows: dict[int, Rows], unreadable: dict[int, InputError], error: InputError
    ) -> RecoveredBatch:
        # The other rows are computed once more in a batch of the same size, with a good row in place of each bad one:
        # so they get the very bytes that they would have had without the bad rows.
        bad = unreadable | dict(self._search([row for row in ids if row in rows], rows, surely=not unreadable))
        if not bad:
            return self._with_all(ids, rows, error)
        bad_rows = [BadRow(row, why.message, _short(why.details)) for row, why in sorted(bad.items())]
        good = [row for row in ids if row not in bad]
        if good:
            self._is_split, self._cut = False, Cut()
            outputs = self._compute(rows | dict.fromkeys(bad, rows[good[0]]), ids)
            return RecoveredBatch(outputs, bad_rows, self._is_split, self._cut)
        if (known := self._known_good_row) is not None:
            try:
                self._compute({known: self._source.read(known, known + 1)}, [known])
            except InputError as again:
                raise ModelError(
                    f"each of {name_rows(ids)} fails, and so does row {known}, which worked before: the rows are not "
                    f"the cause. {again.message}",
                    again.details,
                ) from again
        return RecoveredBatch(None, bad_rows, False)

    def _read(self, ids: Sequence[int]) -> tuple[dict[int, Rows], dict[int, InputError]]:
        """Read the rows one by one; return them, and the errors of those that cannot be read."""
        rows: dict[int, Rows] = {}
        unreadable: dict[int, InputError] = {}
        for row in ids:
            try:
                rows[row] = self._source.read(row, row + 1)
            except InputError as error:
                unreadable[row] = error
        return rows, unreadable

    def _search(
        self, candidates: Sequence[int], rows: dict[int, Rows], surely: bool
    ) -> Iterator[tuple[int, InputError]]:
        """Yield the rows that fail and their errors, in order; `surely` if the candidates are known to fail jointly."""
        if not candidates:
            return
        if not surely or len(candidates) == 1:
            try:
                self._compute(rows, candidates)
            except InputError as error:
                if len(candidates) == 1:
                    yield candidates[0], error
                    return
            else:
                return
        half, is_first_half_good = len(candidates) // 2, True
        for bad_row in self._search(candidates[:half], rows, surely=False):
            is_first_half_good = False
            yield bad_row
        yield from self._search(candidates[half:], rows, surely=is_first_half_good)

    def _compute(self, rows: dict[int, Rows], ids: Sequence[int]) -> Outputs:
        try:
            prepared = self._predictor.prepare(concatenate([rows[i] for i in ids]), ids)
            outputs = self._predictor.forward(prepared, ids)
            self._cut = self._cut.joined(prepared.cut)
            return outputs
        except UnlikeLengths:  # an unreadable row kept the rows from being sorted by length
            is_memory = False
        except MemoryShortage:
            if len(ids) == 1:
                raise
            is_memory = True
        self._is_split |= is_memory  # outside of the `except`, which holds on to the memory that the call has taken
        half = len(ids) // 2
        return join([on_cpu(self._compute(rows, ids[:half])), self._compute(rows, ids[half:])])


def _short(details: str) -> str:
    return "\n".join(details.splitlines()[-_TRACEBACK_LINES:])
