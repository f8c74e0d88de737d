"""Preparation of text for a model of sentence-transformers, with a count of the tokens that are cut off."""

import threading
from collections.abc import Mapping
from typing import Any

from runner.models.transformers.token_encoding import Encoder, lost_tokens

_TOKENIZING = threading.Lock()  # the reader's thread and the search for bad rows; tokenizers are not thread-safe
_UNPADDED = {"text": {"padding": False}, "common": {"return_tensors": None}}


class Preprocessing:
    """The `preprocess` method of a model of the library, with the number of tokens cut off each row.

    Args:
        model: the library's object.
        prompt: prompt of the rows given to `for_default` and `lengths`; None for no prompt.
        keywords: arguments of the library's `preprocess`.

    Attributes:
        counts: whether `lengths` may be called: whether a row's tokens do not depend on the other rows.
    """

    def __init__(self, model: Any, prompt: str | None, keywords: Mapping[str, Any]) -> None:
        self._model = model
        self._prompt = prompt
        self._keywords = keywords
        self.counts = _is_plain(model[0])
        self._encoder = _ChunkEncoder(model, prompt, keywords) if self.counts else None

    def lengths(self, rows: list[Any]) -> list[int]:
        """Return the number of tokens of each row, at most the limit; caches the rows' tokens for `for_default`."""
        assert self._encoder is not None
        with _TOKENIZING:
            return self._encoder.lengths(rows)

    def for_default(self, rows: list[Any]) -> tuple[dict[str, Any], list[int]]:
        """Return the features of rows that all have the default prompt, and the number of tokens cut off each."""
        if self._encoder is None:
            return self.for_prompt(rows, self._prompt)
        with _TOKENIZING:
            tokens = self._encoder(rows)
            return {**tokens.inputs, **self._encoder.extras}, list(tokens.lost)

    def for_prompt(self, rows: list[Any], prompt: str | None) -> tuple[dict[str, Any], list[int]]:
        """Return the features of rows of one prompt, and the number of tokens cut off each."""
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
    """An encoder whose texts go through the library's `preprocess`, without the padding.

    Attributes:
        extras: the library's outputs that are not lists of tokens.
    """

    def __init__(self, model: Any, prompt: str | None, keywords: Mapping[str, Any]) -> None:
        super().__init__(model[0].tokenizer, model.max_seq_length)
        self._model = model
        self._prompt = prompt
        self._keywords = keywords
        self.extras: dict[str, Any] = {}

    def _encode(self, *texts: list[Any]) -> dict[str, list[Any]]:
        features = self._model.preprocess(texts[0], prompt=self._prompt, processing_kwargs=_UNPADDED, **self._keywords)
        self.extras = {name: value for name, value in features.items() if not isinstance(value, list)}
        return {name: value for name, value in features.items() if isinstance(value, list)}

    def _full(self, texts: Any, rows: list[int]) -> list[int]:
        return _full_lengths(self._model[0], texts[0], self._prompt, rows)


def _full_lengths(first: Any, rows: list[Any], prompt: str | None, long: list[int]) -> list[int]:
    """Return the number of tokens of the rows at these positions, without a limit."""
    texts = [rows[index] if isinstance(rows[index], tuple) else (rows[index],) for index in long]
    columns = [list(column) for column in zip(*texts, strict=True)]
    columns[0] = [(prompt or "") + text for text in columns[0]]
    return [len(ids) for ids in first.tokenizer(*columns)["input_ids"]]


def _is_plain(first: Any) -> bool:
    """Return whether a model's first module only gives rows of text to a tokenizer, which pads to the longest row."""
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
