"""Models of sentence-transformers, called with batches of text.

The library's own modules do the work: this module adds only the steps of `encode` and `predict` around them.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from runner.core.errors import InputError, ModelError, UsageError
from runner.data.tensors import Tokens
from runner.models.sentences.tokens import Preprocessing


class Sentences(nn.Module):
    """A model of sentence-transformers, called with the result of `tokenize_texts`.

    Args:
        model: the library's object.
        options: the checked `--model-args`; see `runner.models.sentences.options`.

    Attributes:
        model: the library's object.
        wants_names: whether to call `tokenize_named`, with the columns by name, instead of `tokenize_texts`.
    """

    _num_columns = 1
    _output = "sentence_embedding"

    def __init__(self, model: Any, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = model
        self._prompt_column: str | None = options.get("prompt_column")
        self._keywords = {"task": options["task"]} if "task" in options else {}
        self._preprocessing = Preprocessing(model, _default_prompt(model, options), self._keywords)
        self.wants_names = self._prompt_column is not None

    def inspected_facts(self) -> dict[str, str]:
        """Return what `inspect` shows in place of what it finds by itself."""
        parts = ", ".join(type(module).__name__ for module in self.model)
        kind = f"{type(self.model).__name__} of sentence-transformers: {parts}"
        return {"kind": kind, "input": self._input_summary()}

    def _input_summary(self) -> str:
        rows = "text" if self._num_columns == 1 else "pairs of texts, in two columns"
        length = self.model.max_seq_length
        return f"{rows}, cut off at {length} tokens" if length and length < 1 << 20 else rows

    @property
    def count_tokens(self) -> Callable[..., list[int]] | None:
        """A function from columns of text to the number of tokens of each row, at most the limit; None where rows name
        prompts, or the library does not pad them to the longest row."""
        if self.wants_names or not self._preprocessing.counts:
            return None
        return lambda *columns: self._preprocessing.lengths(self._rows(columns))

    def tokenize_texts(self, *columns: list[str]) -> Tokens:
        """Return the arguments of a call for rows that all have the same prompt.

        Args:
            columns: columns of text, as many as the model takes.

        Returns:
            `parts`, the features of the rows of each prompt; and `order`, each row's position among these, or None.

        Raises:
            ModelError: the number of columns is not the model's.
        """
        if self._prompt_column is not None:
            raise ModelError(
                f"--model-args: prompt_column {self._prompt_column!r} names one of several columns, and the model gets "
                "one alone"
            )
        rows = self._rows(columns)
        part, lost = self._preprocessing.for_default(rows)
        return Tokens({"parts": [part], "order": None}, lost, self.model.max_seq_length)

    def tokenize_named(self, columns: Mapping[str, list[str]], ids: Sequence[int]) -> Tokens:
        """Return the arguments of a call for rows that name their prompts.

        Args:
            columns: columns of text, by name, including the column of prompts.
            ids: the row numbers.

        Returns:
            See `tokenize_texts`.

        Raises:
            InputError: a row names a prompt that the model does not have.
            ModelError: the number of columns is not the model's, or the column of prompts is missing.
        """
        assert self._prompt_column is not None
        if self._prompt_column not in columns:
            raise ModelError(
                f"--model-args: prompt_column {self._prompt_column!r} is not one of the columns that the model gets: "
                f"{', '.join(columns)}"
            )
        rows = self._rows([column for name, column in columns.items() if name != self._prompt_column])
        known = self.model.prompts
        members = dict[str, list[int]]()
        for index, name in enumerate(columns[self._prompt_column]):
            if name not in known:
                raise InputError(f"row {ids[index]}: there is no prompt {name!r}: {_names(known)}")
            members.setdefault(known[name], []).append(index)
        preprocess = self._preprocessing.for_prompt
        tokenized = [preprocess([rows[index] for index in some], prompt) for prompt, some in members.items()]
        order = torch.tensor([index for some in members.values() for index in some]).argsort()
        lost = [number for _, numbers in tokenized for number in numbers]
        inputs = {"parts": [part for part, _ in tokenized], "order": order if len(tokenized) > 1 else None}
        return Tokens(inputs, [lost[place] for place in order.tolist()], self.model.max_seq_length)

    def _rows(self, columns: Sequence[list[str]]) -> list[Any]:
        """Return the rows: texts, or pairs of texts."""
        if len(columns) != self._num_columns:
            raise ModelError(
                f"{type(self.model).__name__} takes {_COUNTS[self._num_columns]} of text, not {len(columns)}; choose "
                "with --columns, and keep others beside the predictions with --keep"
            )
        return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile the library's model alone: each number of prompts in a batch would otherwise need code of its own."""
        self.model.compile(*args, **options)

    def forward(
        self,
        *inputs: torch.Tensor,
        parts: list[dict[str, Any]] | None = None,
        order: torch.Tensor | None = None,
        **columns: Any,
    ) -> Any:
        """Return the predictions for rows of text, in their order.

        Raises:
            ModelError: rows are not text.
        """
        if inputs or columns or parts is None:
            raise ModelError(f"rows must be text: {type(self.model).__name__} has a tokenizer of its own")
        # the library's modules add their results to the dict; the batch itself must not keep them alive
        answers = [self._answer(self.model(dict(part), **self._keywords_of_call())[self._output]) for part in parts]
        return self._finish(answers[0] if order is None else torch.cat(answers)[order])

    def sample(self) -> torch.Tensor:
        """Return the output for a few words, without a prompt: `(2, ...)`."""
        rows: list[Any] = ["one", "some more words"]
        pairs = list(zip(rows, rows, strict=True))
        features, _ = self._preprocessing.for_prompt(rows if self._num_columns == 1 else pairs, None)
        return self._answer(self.model(features, **self._keywords_of_call())[self._output])

    def _keywords_of_call(self) -> dict[str, Any]:
        return self._keywords

    @abstractmethod
    def _answer(self, output: torch.Tensor) -> torch.Tensor:
        """Return the outputs for rows of one prompt: `(rows, ...)`."""

    def _finish(self, answers: torch.Tensor) -> Any:
        """Return the predictions of a batch, from the outputs for its rows."""
        return answers


_COUNTS = {1: "one column", 2: "two columns"}


def _default_prompt(model: Any, options: Mapping[str, Any]) -> str | None:
    """Return the prompt of rows that name none; None for no prompt."""
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
