"""Texts to what a model of sentence-transformers is called with; counts what is cut off."""

import threading
from collections.abc import Mapping
from typing import Any

from runner.models.transformers.encoder import Encoder, lost_tokens

_TOKENIZING = threading.Lock()  # the reader's thread and the search for bad rows; a tokenizer is not made for two
_UNPADDED = {"text": {"padding": False}, "common": {"return_tensors": None}}


class Preprocessing:
    """The `preprocess` of a model of the library, with the tokens that it cuts off each row.

    Args:
        model: the library's object.
        prompt: of the rows that `for_prompt` and `lengths` are called with; None for none.
        keywords: for the library's `preprocess`.

    Attributes:
        limit: the most tokens of a row; None where there is no limit.
        counts: whether `lengths` can be asked: whether the tokens of a row do not depend on the rows beside it.
    """

    def __init__(self, model: Any, prompt: str | None, keywords: Mapping[str, Any]) -> None:
        self._model, self._prompt, self._keywords = model, prompt, keywords
        self.limit: int | None = model.max_seq_length
        self.counts = _is_plain(model[0])
        self._encoder = _ChunkEncoder(model, prompt, keywords) if self.counts else None

    def lengths(self, rows: list[Any]) -> list[int]:
        """The tokens of each row, as far as they are not cut off; remembers the rows' tokens for `for_default`."""
        assert self._encoder is not None
        with _TOKENIZING:
            return self._encoder.lengths(rows)

    def for_default(self, rows: list[Any]) -> tuple[dict[str, Any], list[int]]:
        """The features of rows of the one prompt that all have, and how many tokens each has lost."""
        if self._encoder is None:
            return self.for_prompt(rows, self._prompt)
        with _TOKENIZING:
            tokens = self._encoder(rows)
            return {**tokens.inputs, **self._encoder.extras}, list(tokens.lost)

    def for_prompt(self, rows: list[Any], prompt: str | None) -> tuple[dict[str, Any], list[int]]:
        """The features of rows of a prompt, and how many tokens each has lost."""
        with _TOKENIZING:
            features = dict(self._model.preprocess(rows, prompt=prompt, **self._keywords))
            return features, self._lost(features, rows, prompt)

    def _lost(self, features: Mapping[str, Any], rows: list[Any], prompt: str | None) -> list[int]:
        from sentence_transformers.base.modules import Transformer

        first = self._model[0]
        if not isinstance(first, Transformer) or features.get("modality") != "text" or not first.max_seq_length:
            return [0] * len(rows)
        kept = features["attention_mask"].sum(dim=1).tolist()
        return lost_tokens(kept, first.max_seq_length, lambda long: _full_lengths(first, rows, prompt, long))


class _ChunkEncoder(Encoder):
    """An encoder whose texts the library preprocesses: its `preprocess` without the padding.

    Attributes:
        extras: what the library gives beside lists of tokens.
    """

    def __init__(self, model: Any, prompt: str | None, keywords: Mapping[str, Any]) -> None:
        super().__init__(model[0].tokenizer, model.max_seq_length)
        self._model, self._prompt, self._keywords = model, prompt, keywords
        self.extras: dict[str, Any] = {}

    def _encode(self, *texts: list[Any]) -> dict[str, list[Any]]:
        features = self._model.preprocess(texts[0], prompt=self._prompt, processing_kwargs=_UNPADDED, **self._keywords)
        self.extras = {name: value for name, value in features.items() if not isinstance(value, list)}
        return {name: value for name, value in features.items() if isinstance(value, list)}

    def _full(self, texts: Any, rows: list[int]) -> list[int]:
        return _full_lengths(self._model[0], texts[0], self._prompt, rows)


def _full_lengths(first: Any, rows: list[Any], prompt: str | None, long: list[int]) -> list[int]:
    """The tokens of the rows at these positions, without a limit."""
    texts = [rows[index] if isinstance(rows[index], tuple) else (rows[index],) for index in long]
    columns = [list(column) for column in zip(*texts, strict=True)]
    columns[0] = [(prompt or "") + text for text in columns[0]]
    return [len(ids) for ids in first.tokenizer(*columns)["input_ids"]]


def _is_plain(first: Any) -> bool:
    """Whether a model's first module gives rows of text to a tokenizer, which pads them to the longest, and no more."""
    from sentence_transformers.base.modules import Transformer
    from transformers import PreTrainedTokenizerBase

    return (
        isinstance(first, Transformer)
        and isinstance(first.processor, PreTrainedTokenizerBase)
        and "text" in first.modality_config
        and "message" not in first.modality_config
        and first.transformer_task not in ("text-generation", "any-to-any")
        and not (first.processing_kwargs or first.query_expansion or first.can_flatten_inputs)
    )
