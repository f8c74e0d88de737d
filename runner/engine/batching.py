"""Batching of a chunk's rows where their order alone does not decide: by length, tokens or cost.

The rows of a batch depend on the chunk alone, so that they are the same whichever rank computes it.
"""

import contextlib
from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch

from runner.config.options import Config
from runner.config.paths import is_path
from runner.core.errors import ChunkError, InputError, ModelError, UsageError, describe
from runner.core.text import plural
from runner.core.tracebacks import traceback_of
from runner.data.columns import types_by_name
from runner.data.rows import (
    TEXT,
    Rows,
    RowTypes,
    is_ragged,
    length_keys,
    lengths_of,
    name_rows,
    num_rows_of,
    slice_rows,
    take,
)
from runner.engine.cuts import cut_by_cost, cut_by_length
from runner.engine.predictor import Predictor
from runner.engine.texts import check_num_texts, text_columns
from runner.engine.transforms import find_cost
from runner.sources import Source
from runner.telemetry.log import LOGGER

Batching = Callable[[Rows, int], list[np.ndarray]]
"""Function from the rows of a chunk, and the number of the first, to the positions of each batch's rows in it."""

# The cost of a call by itself, in tokens. On one CPU thread, a call of MiniLM takes as long as 36 tokens, and values
# from 32 to 128 differ by less than 1 %; a GPU computes many tokens in the time in which a call is started.
_CALL_TOKENS = {"cpu": 64, "cuda": 1024}


def make_batching(config: Config, source: Source, predictor: Predictor, device_type: str) -> Batching | None:
    """Return the batching of the rows of chunks; None if rows are taken in their order.

    Raises:
        UsageError: an option does not fit the data or the model.
        ModelError: the user's function cannot be found.
    """
    if config.batch_cost is not None:
        return ByCost(config, predictor)
    if is_ragged(source.row_type, predictor.ignored) and not predictor.pads:
        return ByEqualLength(config, predictor)
    if is_ragged(source.row_type, predictor.ignored):
        return ByLength(config, source, predictor, _CALL_TOKENS.get(device_type, _CALL_TOKENS["cpu"]))
    if config.batch_tokens is not None:
        raise UsageError(
            f"--batch-tokens {config.batch_tokens} is for variable-length rows, and the rows of the data have one "
            "length; limit batches with --batch-size"
        )
    return None


class ByLength:
    """Batching by length, longest rows first, cut for the least time: where padding would cost more than another call.

    Args:
        config: holds the most rows and tokens of a batch.
        source: the data set.
        predictor: knows the columns that the model gets, and counts tokens.
        call_tokens: the cost of a call by itself, in tokens.

    Raises:
        UsageError: tokens are to be counted, and the model has no tokenizer that counts them.
    """

    def __init__(self, config: Config, source: Source, predictor: Predictor, call_tokens: int) -> None:
        self._batch_size = config.batch_size
        self._most = config.batch_tokens
        self._predictor = predictor
        new_tokens = config.model_args.get("max_new_tokens", 0) if is_path(config.model) else 0
        new_tokens = new_tokens or getattr(predictor.tokenize_texts, "new_tokens", 0)
        self._call_tokens = call_tokens * (1 + new_tokens)  # each generated token takes another call
        self._count = predictor.count_tokens
        self._is_text = has_text(source.row_type, predictor.ignored)
        self._says = True
        if self._most is not None and self._is_text and self._count is None:
            raise UsageError(
                f"--batch-tokens {self._most} counts the tokens of a model's tokenizer, and this model has none that "
                "counts; use --batch-cost module:function with --batch-budget"
            )

    def __call__(self, rows: Rows, start: int) -> list[np.ndarray]:
        lengths = self._lengths(rows, start)
        order = np.argsort(-lengths, kind="stable")
        # lengths may be of anything, such as samples of a sound; a call then costs more of these than of tokens
        call_length = max(self._call_tokens, float(lengths.mean()))
        if self._most is not None and self._says and lengths[order[0]] > self._most:
            self._says = False
            _warn_alone(
                start + int(order[0]), f"has {plural(lengths[order[0]], 'token')}", f"--batch-tokens {self._most}"
            )
        return np.split(order, cut_by_length(lengths[order], self._batch_size, call_length, self._most)[1:])

    def _lengths(self, rows: Rows, start: int) -> np.ndarray:
        predictor = self._predictor
        if not self._is_text or self._count is None or (predictor.preprocess is not None and self._most is None):
            lengths = lengths_of(rows, predictor.ignored)
            assert lengths is not None
            return lengths
        try:
            return np.array(self._count(*self._texts(rows, start)), np.int64)
        except ChunkError:
            raise
        except InputError as error:
            raise ChunkError(error.message, error.details) from error

    def _texts(self, rows: Rows, start: int) -> list[list[str]]:
        """Return the columns of text that go into the tokenizer."""
        ids = range(start, start + num_rows_of(rows))
        step = len(ids) if self._predictor.preprocess is None else self._batch_size
        parts: list[list[list[str]]] = []
        for first in range(0, len(ids), step):
            piece = ids[first : first + step]
            inputs = self._predictor.given(slice_rows(rows, first, first + len(piece)), piece)
            if self._predictor.preprocess is not None:
                inputs = self._predictor.preprocessed(inputs, piece)
            texts = text_columns(inputs)
            if texts is None:
                raise ModelError(
                    "--batch-tokens counts the tokens of texts, and --preprocess gave something else for "
                    f"{name_rows(piece)}; use --batch-cost module:function with --batch-budget"
                )
            check_num_texts(texts, piece)
            parts.append(texts)
        return [[text for part in parts for text in part[column]] for column in range(len(parts[0]))]


class ByEqualLength:
    """Batching of rows of equal length, for a model that gets no mask of the padding.

    Args:
        config: holds the most rows of a batch.
        predictor: knows which columns the model gets.
    """

    def __init__(self, config: Config, predictor: Predictor) -> None:
        self._batch_size = config.batch_size
        self._ignored = predictor.ignored

    def __call__(self, rows: Rows, start: int) -> list[np.ndarray]:
        keys = length_keys(rows, self._ignored)
        groups = (np.flatnonzero(keys == key) for key in range(keys.max(initial=-1), -1, -1))
        return [
            group[first : first + self._batch_size]
            for group in groups
            for first in range(0, len(group), self._batch_size)
        ]


class ByCost:
    """Batching in the order of the data: as many rows as cost no more than the budget together.

    Args:
        config: holds the user's function and the budget.
        predictor: makes the argument of the function.

    Raises:
        ModelError: the function cannot be found.
    """

    def __init__(self, config: Config, predictor: Predictor) -> None:
        assert config.batch_budget is not None
        self._cost = find_cost(config.batch_cost)
        self._predictor = predictor
        self._batch_size = config.batch_size
        self._budget = config.batch_budget
        self._says = True

    def __call__(self, rows: Rows, start: int) -> list[np.ndarray]:
        ids = range(start, start + num_rows_of(rows))
        try:
            costs = self._costs(rows, ids)
        except ModelError as error:
            costs = self._costs_one_by_one(rows, ids, error)
        if self._says and costs.max() > self._budget:
            self._says = False
            row = int(costs.argmax())
            _warn_alone(start + row, f"costs {costs[row]:g}", f"--batch-budget {self._budget}")
        return np.split(np.arange(len(ids)), cut_by_cost(costs, self._batch_size, self._budget)[1:])

    def _costs(self, rows: Rows, ids: Sequence[int]) -> np.ndarray:
        inputs = self._predictor.given(take(rows, range(len(ids))), ids)  # the function may change it in place
        try:
            costs = torch.as_tensor(self._cost(inputs), dtype=torch.float64).detach().cpu().numpy()
        except Exception as error:
            what = f"--batch-cost failed on {name_rows(ids)}: {describe(error)}"
            raise ModelError(what, traceback_of(error)) from error
        if costs.shape != (len(ids),):
            raise ModelError(
                f"--batch-cost gave shape {costs.shape} for {name_rows(ids)}: one number per row is needed"
            )
        if not (np.isfinite(costs) & (costs >= 0)).all():
            raise ModelError(f"--batch-cost gave {costs.min():g} to {costs.max():g} for {name_rows(ids)}: none below 0")
        return costs

    def _costs_one_by_one(self, rows: Rows, ids: Sequence[int], error: ModelError) -> np.ndarray:
        """Return the cost of each row, infinite where the function fails; such a row goes through the model alone."""
        costs = np.full(len(ids), np.inf)
        for index, row in enumerate(ids):
            with contextlib.suppress(ModelError):
                costs[index] = self._costs(slice_rows(rows, index, index + 1), [row])[0]
        if np.isinf(costs).all():
            raise error
        return costs


def has_text(row_type: RowTypes, ignored: Collection[str]) -> bool:
    """Return whether a column that the model gets is text."""
    return any(kind.dtype == TEXT for name, kind in types_by_name(row_type).items() if name not in ignored)


def _warn_alone(row: int, what: str, limit: str) -> None:
    LOGGER.warning("row %d alone %s, more than %s: such rows are computed one by one", row, what, limit)
