"""Canary: the same small batch twice on every rank, so that a rank that computes wrong is named before it does harm.

A model that gives another answer the second time keeps a state, or depends on chance: with it the predictions would
depend on how rows are shared among ranks. Ranks on different processors, or with different numbers of threads, may
differ in the last bits: this gives a warning, not an error.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from runner.comm import Comm
from runner.core.checksum import checksum
from runner.core.errors import ModelError, RunnerError, shared
from runner.data.columns import Columns, pack
from runner.data.outputs import as_columns
from runner.data.rows import Column, Ragged, concatenate, take
from runner.engine.answers import compare, sample
from runner.engine.deviation import TOLERANCE, deviation_of
from runner.engine.predictor import Predictor
from runner.sources import Source

EQUAL = "equal"
_ROWS, _BYTES = 8, 4 << 20  # at most


class Canary:
    """Canary of one rank; every rank makes one and calls its methods at the same points.

    Args:
        comm: the ranks.
        predictor: computes the batch.
        source: the data set.
        row: a row that works; it is repeated to make a batch.
        batch_size: the most rows of a batch.
        row_bytes: bytes of a row of predictions.

    Attributes:
        says: result of `compare`: EQUAL, or how answers differ, in words; empty where a single rank's do not.
    """

    def __init__(
        self, comm: Comm, predictor: Predictor, source: Source, row: int, batch_size: int, row_bytes: int
    ) -> None:
        self._comm = comm
        self._predictor = predictor
        self._row = row
        num_rows = max(1, min(_ROWS, batch_size, _BYTES // max(1, row_bytes)))
        self._num_rows = num_rows
        self._rows = comm.on_each(lambda: concatenate([source.read(row, row + 1)] * num_rows))
        self._first: Columns
        self.says = ""

    def compare(self, may_change: bool = False) -> None:
        """Compare the ranks' answers, and each rank's with its own second answer.

        Args:
            may_change: whether a model may give another answer at each call.

        Raises:
            ModelError: on every rank alike: the model gives another answer at the second call.
            RunnerError: on every rank alike, naming the ranks whose answers differ from most by more than rounding.
        """
        self._first = self._comm.on_each(self._answer)
        change = max(self._comm.gather_all(_change(self._comm.on_each(self._answer), self._first)))
        self._repeats = not may_change and not change
        if change:
            if not may_change:
                raise shared(ModelError(_about_state(self._predictor, self._row, change)))
            self.says = f"the model gives a different answer to row {self._row} at each call"
        elif self._comm.world.world_size > 1:
            self.says = self._compare_ranks()

    def _compare_ranks(self) -> str:
        digests = self._comm.gather_all(checksum(pack(self._first)))
        if len(set(digests)) == 1:
            return EQUAL
        most = Counter(digests).most_common(1)[0][0]  # among equally frequent ones, that of the lowest rank
        is_reference = self._comm.world.rank == digests.index(most)
        reference = self._comm.gather_all(self._first if is_reference else None)[digests.index(most)]
        assert reference is not None
        deviations = self._comm.gather_all((_deviation(self._first, reference), self._comm.world.who))
        return self._comm.on_each(lambda: self._judge(deviations))

    def sample(self) -> dict[str, Any] | None:
        """Return what a later job compares its answers with; None where no two answers need be equal."""
        return sample(self._first, self._row) if self._repeats else None

    def compare_with(self, former: Mapping[str, Any]) -> str:
        """Compare this rank's answers with the `sample` of an earlier job.

        Returns:
            Words that tell how they differ by rounding; empty where they do not.

        Raises:
            InputError: they differ by more than rounding.
        """
        return compare(former, self._first, self._row) if self._repeats else ""

    def compare_again(self) -> dict[int, str]:
        """Return the ranks whose answer has changed since `compare`, each with its name in words."""
        off = _deviation(self._comm.on_each(self._answer), self._first) if self._repeats else 0.0
        deviations = self._comm.gather_all((off, self._comm.world.who))
        return {rank: who for rank, (off, who) in enumerate(deviations) if not off <= TOLERANCE}

    def _judge(self, offs: list[tuple[float, str]]) -> str:
        """Return how answers differ, by each rank's deviation and name. Every rank raises RunnerError if one is off."""
        if wrong := [f"{who} (off by {off:.2g})" for off, who in offs if not off <= TOLERANCE]:
            raise RunnerError(
                f"the ranks do not agree on row {self._row}: {', '.join(wrong)} of the largest value, from what most "
                "compute. Its processor, GPU or libraries are faulty, or the model depends on the rank"
            )
        return (
            f"the ranks' answers differ by up to {max(off for off, _ in offs):.1g} of the largest value: different "
            "processors or numbers of threads. The last bits of a row depend on the rank that computes it"
        )

    def _answer(self) -> Columns:
        ids = [self._row] * self._num_rows
        rows = take(self._rows, range(self._num_rows))  # a copy: preprocessing may change rows in place
        return as_columns(self._predictor.forward(self._predictor.prepare(rows, ids), ids))


def _about_state(predictor: Predictor, row: int, change: float) -> str:
    """Return the message about a model whose second answer differs."""
    reset = f"--stateful reset calls its {predictor.reset_name}() before each batch" if predictor.reset_name else ""
    return (
        f"the model gives a different answer to row {row} when it is called again, off by {change:.2g} of the largest "
        "value: it keeps a state between calls, or is random (dropout that was saved in training mode). Predictions "
        "would depend on the partition of the rows. "
        f"{reset or 'It has no method reset_states, reset_state or reset, which --stateful reset would call'}; "
        "--stateful keep accepts it, and two jobs may then differ"
    )


def _change(again: Columns, first: Columns) -> float:
    """Return the deviation of a second answer; 0 if it is no more than rounding, as some libraries and GPUs have."""
    return max(
        off if (off := deviation_of(again[name], column)) > _rounding(column) else 0.0 for name, column in first.items()
    )


def _rounding(column: Column) -> float:
    """Return the difference, relative to the largest value, that may be rounding: half of the digits of the dtype."""
    values = column.values if isinstance(column, Ragged) else column
    return float(np.sqrt(np.finfo(values.dtype).eps)) if values.dtype.kind in "fc" else 0.0


def _deviation(answer: Columns, reference: Columns) -> float:
    """Return the largest difference, relative to the largest value of the column; infinite if only one is finite."""
    return max(deviation_of(answer[name], column) for name, column in reference.items())
