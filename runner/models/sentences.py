"""Models of sentence-transformers as they are called with a batch of text.

The library's own modules do the work: here are only the steps that `encode` and `predict` do around them.
"""

import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from runner.errors import InputError, ModelError, UsageError
from runner.tensors import Tokens

_TOKENIZING = threading.Lock()  # the reader's thread and the search for bad rows; a tokenizer is not made for two


class Sentences(nn.Module):
    """A model of sentence-transformers, called with what `tokenise` gives.

    Args:
        model: the library's object.
        options: of `--model-args`, checked; see `runner.models.sentenceoptions`.

    Attributes:
        model: the library's object.
        wants_names: whether `tokenise_named` is to be called, with the columns by name.
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
        return f"{rows}, cut off at {length} tokens" if length and length < 1 << 20 else rows

    def tokenise(self, *columns: list[str]) -> Tokens:
        """The arguments of a call for rows of the one prompt that all have.

        Args:
            columns: of text, as many as the model takes.

        Returns:
            With `parts`: the features of the rows of each prompt; and `order`: where each row is among these, or None.

        Raises:
            ModelError: there are other columns than the model takes.
        """
        if self._prompt_column is not None:
            raise ModelError(
                f"--model-args: prompt_column {self._prompt_column!r} names one of several columns, and the model gets "
                "one alone"
            )
        rows = self._rows(columns)
        part, lost = self._preprocess(rows, self._prompt)
        return Tokens({"parts": [part], "order": None}, lost, self.model.max_seq_length)

    def tokenise_named(self, columns: Mapping[str, list[str]], ids: Sequence[int]) -> Tokens:
        """The arguments of a call for rows that name their prompts.

        Args:
            columns: of text, by name, with that of the prompts.
            ids: the numbers of the rows.

        Returns:
            As `tokenise`.

        Raises:
            InputError: a row names a prompt that the model does not have.
            ModelError: there are other columns than the model takes, or not that of the prompts.
        """
        assert self._prompt_column is not None
        if self._prompt_column not in columns:
            raise ModelError(
                f"--model-args: prompt_column {self._prompt_column!r} is not one of the columns that the model gets: "
                f"{', '.join(columns)}"
            )
        rows = self._rows([column for name, column in columns.items() if name != self._prompt_column])
        known, members = self.model.prompts, dict[str, list[int]]()
        for index, name in enumerate(columns[self._prompt_column]):
            if name not in known:
                raise InputError(f"row {ids[index]}: there is no prompt {name!r}: {_names(known)}")
            members.setdefault(known[name], []).append(index)
        found = [self._preprocess([rows[index] for index in some], prompt) for prompt, some in members.items()]
        order = torch.tensor([index for some in members.values() for index in some]).argsort()
        lost = [number for _, numbers in found for number in numbers]
        inputs = {"parts": [part for part, _ in found], "order": order if len(found) > 1 else None}
        return Tokens(inputs, [lost[place] for place in order.tolist()], self.model.max_seq_length)

    def _rows(self, columns: Sequence[list[str]]) -> list[Any]:
        """Texts, or pairs of them."""
        if len(columns) != self._num_columns:
            raise ModelError(
                f"{type(self.model).__name__} takes {_COUNTS[self._num_columns]} of text, not {len(columns)}; choose "
                "with --columns, and keep others beside the predictions with --keep"
            )
        return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))

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
        features, _ = self._preprocess(rows if self._num_columns == 1 else list(zip(rows, rows, strict=True)), None)
        return self._answer(self.model(features, **self._keywords_of_call())[self._output])

    def _preprocess(self, rows: list[Any], prompt: str | None) -> tuple[dict[str, Any], list[int]]:
        """The features of rows, and how many tokens each has lost."""
        with _TOKENIZING:
            features = dict(self.model.preprocess(rows, prompt=prompt, **self._keywords))
            return features, self._lost(features, rows, prompt or "")

    def _lost(self, features: Mapping[str, Any], rows: list[Any], prompt: str) -> list[int]:
        from sentence_transformers.base.modules import Transformer

        lost, first = [0] * len(rows), self.model[0]
        if not isinstance(first, Transformer) or features.get("modality") != "text" or not first.max_seq_length:
            return lost
        kept = features["attention_mask"].sum(dim=1).tolist()
        if long := [index for index, length in enumerate(kept) if length >= first.max_seq_length]:
            texts = [rows[index] if isinstance(rows[index], tuple) else (rows[index],) for index in long]
            columns = [list(column) for column in zip(*texts, strict=True)]
            columns[0] = [prompt + text for text in columns[0]]
            for index, ids in zip(long, first.tokenizer(*columns)["input_ids"], strict=True):
                lost[index] = len(ids) - kept[index]
        return lost

    def _keywords_of_call(self) -> dict[str, Any]:
        return self._keywords

    @abstractmethod
    def _answer(self, output: torch.Tensor) -> torch.Tensor:
        """What rows of one prompt give: `(rows, ...)`."""

    def _finish(self, answers: torch.Tensor) -> Any:
        """The predictions of a batch, from the answers to its rows."""
        return answers


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
