"""Conversion of text to the arguments of a Transformers model, by the tokenizer of its folder."""

import copy
import functools
import threading
from pathlib import Path
from typing import Any

import torch

from runner.config.options import Config
from runner.core.errors import ModelError, describe
from runner.data.tensors import Tokens
from runner.models.language.chat import ChatEncoder
from runner.models.transformers.token_encoding import Encoder

_VOCABULARY = ("tokenizer.json", "vocab*", "*.model", "*.tiktoken")  # without one, a tokenizer has no words
TOKENIZER_FILES = (
    *_VOCABULARY,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.*",
)
_NO_LIMIT = 1 << 20  # tokenizers without a length limit report a huge one


class FolderTokenizer:
    """Conversion of text to token ids and mask by the tokenizer of a folder, which is loaded on first use.

    Rows longer than the model takes, less the tokens that it is to add, or than `max_length` of --model-args are cut
    off, on the side that the tokenizer or --truncate names; the tokens cut off are counted.
    """

    def __init__(self, transformers: Any, folder: str, config: Config) -> None:
        self._transformers = transformers
        self._folder = folder
        self._name = config.model
        self._trust_code = config.trust_code
        self._max_length: int | None = config.model_args.get("max_length")
        self._max_new_tokens: int = config.model_args.get("max_new_tokens", 0)
        self._scores = bool(config.model_args.get("score"))
        self._truncate = config.truncate
        self._config = config
        self._lock = threading.Lock()  # the reader's thread and the search for bad rows; tokenizers are not thread-safe

    def __call__(self, *texts: list[str]) -> Tokens:
        """Return the model's arguments for a batch of texts, or of pairs of texts, and the numbers of tokens cut off.

        Raises:
            ModelError: there is no tokenizer in the folder.
        """
        with self._lock:
            return self._to_be_scored(*texts) if self._scores else self._loaded(*texts)

    def lengths(self, *texts: list[str]) -> list[int]:
        """Return the number of tokens of each row, at most the limit.

        Raises:
            ModelError: there is no tokenizer in the folder.
        """
        with self._lock:
            if self._scores:
                return [int(length) for length in self._to_be_scored(*texts).inputs["attention_mask"].sum(dim=1)]
            return self._loaded.lengths(*texts)

    def _to_be_scored(self, *texts: list[str]) -> Tokens:
        encode = self._loaded
        return to_be_scored(encode.tokenizer, encode.max_length, *texts, keeps_start=self._truncate == "right")

    @property
    def room(self) -> tuple[int | None, bool]:
        """The most tokens of a row and of the answer to it together, None for no limit; and whether each has as many.

        Raises:
            ModelError: there is no tokenizer in the folder.
        """
        with self._lock:
            return self._room if self._loaded and self._room < _NO_LIMIT else None, self._has_encoder

    def copy(self) -> Any:
        """Return a copy of the tokenizer object, for another thread.

        Raises:
            ModelError: there is no tokenizer in the folder.
        """
        with self._lock:
            return copy.deepcopy(self._loaded.tokenizer)

    @property
    def library(self) -> Any:
        """The tokenizer object of Transformers.

        Raises:
            ModelError: there is no tokenizer in the folder.
        """
        with self._lock:
            return self._loaded.tokenizer

    @functools.cached_property
    def _loaded(self) -> Encoder:
        if not any(file for pattern in _VOCABULARY for file in Path(self._folder).glob(pattern)):
            raise ModelError(f"--model {self._name} has no tokenizer in it, which rows of text need")
        try:
            tokenize_texts = self._transformers.AutoTokenizer.from_pretrained(
                self._folder, local_files_only=True, trust_remote_code=self._trust_code
            )
            settings = self._transformers.AutoConfig.from_pretrained(
                self._folder, local_files_only=True, trust_remote_code=self._trust_code
            )
        except Exception as error:
            raise ModelError(f"--model {self._name}: its tokenizer cannot be loaded: {describe(error)}") from error
        if tokenize_texts.pad_token is None:
            tokenize_texts.pad_token = tokenize_texts.eos_token or tokenize_texts.unk_token
        tokenize_texts.padding_side = "right"
        if self._truncate in ("left", "right"):
            tokenize_texts.truncation_side = self._truncate
        positions = getattr(settings, "max_position_embeddings", None) or _NO_LIMIT
        self._room = min(positions, tokenize_texts.model_max_length)
        self._has_encoder = bool(getattr(settings, "is_encoder_decoder", False))
        if not self._has_encoder:  # with one, the answer has positions of its own
            positions = max(1, positions - self._max_new_tokens)
        limits = [self._max_length, tokenize_texts.model_max_length, positions]
        known = [limit for limit in limits if limit and limit < _NO_LIMIT - self._max_new_tokens]
        limit = min(known, default=None)
        return self._chat(tokenize_texts, limit) or Encoder(tokenize_texts, limit)

    def _chat(self, tokenizer: Any, limit: int | None) -> Encoder | None:
        """Return the encoder of conversations, where texts are part of some; None where they go in as they are."""
        config = self._config
        needs_one = [f"--{name}" for name in ("system", "messages") if getattr(config, name) is not None]
        wanted = config.model_args.get("chat_template")
        if wanted:
            needs_one.append('"chat_template": true')
        if self._scores or not self._max_new_tokens:
            if needs_one:
                raise ModelError(f"{needs_one[0]} is for a model that generates, and this one does not")
            return None
        if needs_one and (wanted is False or not tokenizer.chat_template):
            why = "--model-args leaves it out" if wanted is False else f"--model {self._name} has none"
            raise ModelError(f"{needs_one[0]} needs the chat template of the model's tokenizer, and {why}")
        if wanted is False or not tokenizer.chat_template:
            return None
        more = config.model_args.get("chat_template_kwargs", {})
        return ChatEncoder(tokenizer, limit, config.system, config.messages is not None, more)


def to_be_scored(tokenize_texts: Any, max_length: int | None, *texts: list[str], keeps_start: bool = False) -> Tokens:
    """Return a causal model's arguments for texts, and which of the tokens to score.

    Args:
        tokenize_texts: tokenizer of the model.
        max_length: the most tokens of a row; a longer row loses its beginning.
        texts: one column, scored from its second token on; or two, a context and the continuation to score.
        keeps_start: whether a row that is too long loses its end instead.

    Raises:
        ModelError: there are more than two columns.
    """
    if len(texts) > 2:
        raise ModelError(f"score takes one or two columns of text, not {len(texts)}: what is given, and what follows")
    follows = tokenize_texts(list(texts[-1]), add_special_tokens=len(texts) == 1)["input_ids"]
    context = tokenize_texts(list(texts[0]))["input_ids"] if len(texts) == 2 else [[]] * len(follows)
    complete_rows = [before + after for before, after in zip(context, follows, strict=True)]
    rows = [row[:max_length] if keeps_start else row[-(max_length or _NO_LIMIT) :] for row in complete_rows]
    ids = torch.full((len(rows), max([1, *map(len, rows)])), tokenize_texts.pad_token_id or 0)
    mask, scored = torch.zeros_like(ids), torch.zeros(ids.shape, dtype=torch.bool)
    lost = [len(full) - len(row) for full, row in zip(complete_rows, rows, strict=True)]
    for index, (row, before) in enumerate(zip(rows, context, strict=True)):
        ids[index, : len(row)] = torch.tensor(row, dtype=ids.dtype)
        mask[index, : len(row)] = 1
        scored[index, max(0, len(before) - (0 if keeps_start else lost[index])) : len(row)] = True
    return Tokens({"input_ids": ids, "attention_mask": mask, "scored": scored}, lost, max_length)
