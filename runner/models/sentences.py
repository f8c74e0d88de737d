"""Models of sentence-transformers as they are called with a batch of text.

The library's own modules do the work: here are only the steps that `encode` and `predict` do around them.
"""

import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from runner.errors import InputError, ModelError, UsageError
from runner.models.encoder import lost_tokens
from runner.tensors import RaggedTensor, Tokens

_NO_LIMIT = 1 << 20  # tokenizers that know no limit of length name a huge one
_TOKENIZING = threading.Lock()  # the reader's thread and the search for bad rows; a tokenizer is not made for two


class Sentences(nn.Module):
    """A model of sentence-transformers, called with what `tokenise` gives.

    Args:
        model: the library's object.
        options: of `--model-args`, checked; see `runner.models.sentenceoptions`.

    Attributes:
        model: the library's object.
        wants_names: whether `tokenise` is to be called with the columns by name.
    """

    _num_columns = 1
    _output = "sentence_embedding"

    def __init__(self, model: Any, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = model
        self._prompt_column: str | None = options.get("prompt_column")
        self._prompt = _default_prompt(model, options)
        self._keywords = {"task": options["task"]} if "task" in options else {}
        self.wants_names = self._prompt_column is not None

    @property
    def input_in_words(self) -> str:
        """What the rows are, for people."""
        rows = "text" if self._num_columns == 1 else "pairs of texts, in two columns"
        length = self.model.max_seq_length
        return f"{rows}, cut off at {length} tokens" if length and length < _NO_LIMIT else rows

    def tokenise(self, /, *columns: list[str], **named: list[str]) -> Tokens:
        """The arguments of a call for some rows.

        Args:
            columns: of text, as many as the model takes.
            named: the same by name, and the column of prompts, where there is one.

        Returns:
            As `inputs` `parts`, the features of the rows of each prompt, and `order`, where each row is among these, or
            None; and the tokens that each row has lost.

        Raises:
            InputError: a row names a prompt that the model does not have.
            ModelError: there are other columns than the model takes.
        """
        prompts: list[str | None] = []
        if self._prompt_column is not None:
            if self._prompt_column not in named:
                raise ModelError(
                    f"--model-args: prompt_column {self._prompt_column!r} is not one of several columns that the model "
                    f"gets{': ' * bool(named)}{', '.join(named)}"
                )
            prompts = [self._find_prompt(name) for name in named[self._prompt_column]]
            columns = tuple(column for name, column in named.items() if name != self._prompt_column)
        if len(columns) != self._num_columns:
            raise ModelError(
                f"{type(self.model).__name__} takes {_COUNTS[self._num_columns]} of text, not {len(columns)}; choose "
                "with --columns, and keep others beside the predictions with --keep"
            )
        rows: Sequence[Any] = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
        members: dict[str | None, list[int]] = {}
        for index, prompt in enumerate(prompts or [self._prompt] * len(rows)):
            members.setdefault(prompt, []).append(index)
        parts, lost = [], [0] * len(rows)
        for prompt, some in members.items():
            part = [rows[index] for index in some]
            parts.append(self._preprocess(part, prompt))
            for index, number in zip(some, self._lost(part, prompt, parts[-1]), strict=True):
                lost[index] = number
        order = torch.tensor([index for some in members.values() for index in some]).argsort()
        return Tokens({"parts": parts, "order": order if len(parts) > 1 else None}, lost, self._limit)

    # `--compile` is for the library's model alone: how many prompts a batch has would each time want other code
    @torch.compiler.disable(recursive=False)  # type: ignore[no-untyped-call, untyped-decorator]
    def forward(
        self,
        *inputs: torch.Tensor,
        parts: list[dict[str, Any]] | None = None,
        order: torch.Tensor | None = None,
        **columns: Any,
    ) -> Any:
        """The predictions for rows of text, in their order.

        Raises:
            ModelError: rows are no text.
        """
        if inputs or columns or parts is None:
            raise ModelError(f"rows must be text: {type(self.model).__name__} has a tokenizer of its own")
        # the library's modules add to a dict what they compute; the batch itself is not to hold on to that
        answers = [self._answer(self.model(dict(part), **self._keywords_of_call())[self._output]) for part in parts]
        return self._finish(answers[0] if order is None else torch.cat(answers)[order])

    def sample(self) -> torch.Tensor:
        """The answer to a few words, without a prompt: `(2, ...)`."""
        rows: list[Any] = ["one", "some more words"]
        features = self._preprocess(rows if self._num_columns == 1 else list(zip(rows, rows, strict=True)), None)
        return self._answer(self.model(features, **self._keywords_of_call())[self._output])

    def _preprocess(self, rows: list[Any], prompt: str | None) -> dict[str, Any]:
        with _TOKENIZING:
            return dict(self.model.preprocess(rows, prompt=prompt, **self._keywords))

    @property
    def _limit(self) -> int | None:
        """The most tokens of a row; None where there is no limit."""
        limit: int | None = self.model.max_seq_length
        return limit if limit and limit < _NO_LIMIT else None

    def _lost(self, rows: list[Any], prompt: str | None, features: Mapping[str, Any]) -> list[int]:
        """How many tokens of each row the library has cut off."""
        mask, tokenizer = features.get("attention_mask"), self.model.tokenizer
        if mask is None or not callable(tokenizer):
            return [0] * len(rows)

        def full_lengths(long: list[int]) -> list[int]:
            some = [rows[row] if self._num_columns > 1 else (prompt or "") + rows[row] for row in long]
            with _TOKENIZING:
                return [len(ids) for ids in tokenizer(some, truncation=False, verbose=False)["input_ids"]]

        return lost_tokens(mask.sum(dim=1).tolist(), self._limit, full_lengths)

    def _find_prompt(self, name: str) -> str:
        if name not in self.model.prompts:
            raise InputError(f"there is no prompt {name!r}: {_names(self.model.prompts)}")
        prompt: str = self.model.prompts[name]
        return prompt

    def _keywords_of_call(self) -> dict[str, Any]:
        return self._keywords

    @abstractmethod
    def _answer(self, output: torch.Tensor) -> torch.Tensor:
        """What rows of one prompt give: `(rows, ...)`."""

    def _finish(self, answers: torch.Tensor) -> Any:
        """The predictions of a batch, from the answers to its rows."""
        return answers


class Embeddings(Sentences):
    """A SentenceTransformer: `(batch, width)`, as `encode` gives it.

    Args:
        ranges: `(2, width)`, the smallest and largest value of each dimension, for `precision` int8 and uint8.
    """

    def __init__(self, model: Any, options: Mapping[str, Any], ranges: np.ndarray | None = None) -> None:
        super().__init__(model, options)
        self._truncate_dim = options.get("truncate_dim", model.truncate_dim)
        self._normalizes = bool(options.get("normalize"))
        self._precision, self._ranges = options.get("precision", "float32"), ranges

    def _answer(self, output: torch.Tensor) -> torch.Tensor:
        from sentence_transformers.util import truncate_embeddings

        embeddings: torch.Tensor = truncate_embeddings(output, self._truncate_dim)
        return nn.functional.normalize(embeddings, p=2, dim=1) if self._normalizes else embeddings

    def _finish(self, answers: torch.Tensor) -> torch.Tensor:
        from sentence_transformers.util import quantize_embeddings

        if self._precision == "float32":
            return answers
        if self._ranges is not None and self._ranges.shape[1] != answers.shape[1]:
            raise ModelError(
                f"--model-args: calibration has {self._ranges.shape[1]} numbers a row, the model gives "
                f"{answers.shape[1]}"
            )
        return torch.from_numpy(quantize_embeddings(answers, self._precision, ranges=self._ranges))


class SparseEmbeddings(Sentences):
    """A SparseEncoder: for each row the indices and the values of what is not 0, as `encode` gives them."""

    def _keywords_of_call(self) -> dict[str, Any]:
        limit = self.model.max_active_dims
        return self._keywords if limit is None else {**self._keywords, "max_active_dims": limit}

    def _answer(self, output: torch.Tensor) -> torch.Tensor:
        from sentence_transformers.util import select_max_active_dims

        found: torch.Tensor = select_max_active_dims(output, self.model.max_active_dims)
        return found.to_dense() if found.is_sparse else found

    def _finish(self, answers: torch.Tensor) -> dict[str, RaggedTensor]:
        sparse = answers.to_sparse().coalesce()
        rows, columns = sparse.indices()
        lengths = torch.bincount(rows, minlength=len(answers))
        return {
            "indices": RaggedTensor(columns.to(torch.int32), lengths),
            "values": RaggedTensor(sparse.values(), lengths),
        }


class PairScores(Sentences):
    """A CrossEncoder: `(batch,)`, or `(batch, labels)` where there are several, as `predict` gives them."""

    _num_columns = 2
    _output = "scores"

    def _answer(self, output: torch.Tensor) -> torch.Tensor:
        if output.is_floating_point() and torch.finfo(output.dtype).bits < 32:
            output = output.float()
        scores: torch.Tensor = self.model.activation_fn(output)
        return scores.squeeze(-1) if self.model.num_labels == 1 and scores.ndim > 1 else scores


_COUNTS = {1: "one column", 2: "two columns"}


def _default_prompt(model: Any, options: Mapping[str, Any]) -> str | None:
    """The prompt of rows that name none."""
    if "prompt" in options:
        prompt: str = options["prompt"]
        return prompt
    name = options.get("prompt_name", model.default_prompt_name)
    if name is None:
        return None
    if name not in model.prompts:
        raise UsageError(f"--model-args: there is no prompt_name {name!r}: {_names(model.prompts)}")
    named: str = model.prompts[name]
    return named


def _names(prompts: Mapping[str, str]) -> str:
    return f"the model has {', '.join(map(repr, prompts))}" if prompts else "the model has none"
