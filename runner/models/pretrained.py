"""Models and tokenisers of Transformers as they are called with a batch."""

import functools
import threading
from pathlib import Path
from typing import Any

import torch
from torch import nn

from runner.config import Config
from runner.errors import ModelError, describe
from runner.models.encoder import Encoder
from runner.tensors import RaggedTensor, Tokens

_VOCABULARY = ("tokenizer.json", "vocab*", "*.model", "*.tiktoken")  # without one, a tokeniser knows no word
TOKENISER_FILES = (
    *_VOCABULARY,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
)
_NO_LIMIT = 1 << 20  # tokenisers that know no limit of length name a huge one


class Tokeniser:
    """Text to token ids and mask, by the tokeniser of a folder, which is loaded when it is first used.

    What is longer than the model takes, with the tokens that it is to add, or than `max_length` of the model's
    arguments, is cut off, on the side that the tokeniser or --truncate says, and counted.
    """

    def __init__(self, transformers: Any, folder: str, config: Config) -> None:
        self._transformers, self._folder = transformers, folder
        self._name, self._trust_code = config.model, config.trust_code
        self._max_length: int | None = config.model_args.get("max_length")
        self._max_new_tokens: int = config.model_args.get("max_new_tokens", 0)
        self._scores, self._truncate = bool(config.model_args.get("score")), config.truncate
        self._lock = threading.Lock()  # the reader's thread and the search for bad rows; it is not made for two

    def __call__(self, *texts: list[str]) -> Tokens:
        """The model's arguments for a batch of texts, or of pairs of texts, and what was cut off.

        Raises:
            ModelError: there is no tokeniser in the folder.
        """
        with self._lock:
            return self._to_be_scored(*texts) if self._scores else self._loaded(*texts)

    def lengths(self, *texts: list[str]) -> list[int]:
        """The tokens of each row, as far as they are not cut off.

        Raises:
            ModelError: there is no tokeniser in the folder.
        """
        with self._lock:
            if self._scores:
                return [int(length) for length in self._to_be_scored(*texts).inputs["attention_mask"].sum(dim=1)]
            return self._loaded.lengths(*texts)

    def _to_be_scored(self, *texts: list[str]) -> Tokens:
        encode = self._loaded
        return to_be_scored(encode.tokenizer, encode.max_length, *texts, keeps_start=self._truncate == "right")

    def decode(self, tokens: torch.Tensor) -> list[str]:
        """The text of token ids `(batch, length)`, without special ones.

        Raises:
            ModelError: there is no tokeniser in the folder.
        """
        with self._lock:
            found: list[str] = self._loaded.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return found

    @functools.cached_property
    def _loaded(self) -> Encoder:
        if not any(file for pattern in _VOCABULARY for file in Path(self._folder).glob(pattern)):
            raise ModelError(f"--model {self._name} has no tokeniser in it, which rows of text need")
        try:
            tokenise = self._transformers.AutoTokenizer.from_pretrained(
                self._folder, local_files_only=True, trust_remote_code=self._trust_code
            )
            settings = self._transformers.AutoConfig.from_pretrained(
                self._folder, local_files_only=True, trust_remote_code=self._trust_code
            )
        except Exception as error:
            raise ModelError(f"--model {self._name}: its tokeniser cannot be loaded: {describe(error)}") from error
        if tokenise.pad_token is None:
            tokenise.pad_token = tokenise.eos_token or tokenise.unk_token
        tokenise.padding_side = "right"
        if self._truncate in ("left", "right"):
            tokenise.truncation_side = self._truncate
        positions = getattr(settings, "max_position_embeddings", None) or _NO_LIMIT
        limits = [self._max_length, tokenise.model_max_length, max(1, positions - self._max_new_tokens)]
        known = [limit for limit in limits if limit and limit < _NO_LIMIT - self._max_new_tokens]
        return Encoder(tokenise, min(known, default=None))


class Pretrained:
    """Calls a model of Transformers by the names of its inputs, and picks what it is run for.

    Args:
        model: the model.
        generates: whether it is run to add tokens.
        options: `pooling` (mean, cls or last) for a model without a head; `max_new_tokens` for a causal
            one, and `decode` for text instead of tokens; or `score`, for how likely it holds what is there.
        tokenise: from text, or several columns of it, to the model's arguments.
    """

    def __init__(self, model: Any, generates: bool, options: dict[str, Any], tokenise: Tokeniser) -> None:
        self.tokenise, self._decodes = tokenise, bool(options.get("decode"))
        self._is_per_token = type(model).__name__.endswith("ForTokenClassification")
        self.model, self._pooling = model, options.get("pooling", "mean")
        self._scores = bool(options.get("score"))
        self._max_new_tokens = options["max_new_tokens"] if generates and not self._scores else None

    def __call__(self, *inputs: torch.Tensor, **named: torch.Tensor) -> Any:
        names = ("input_ids", "attention_mask") if len(inputs) == 2 else (self.model.main_input_name,)
        arguments = dict(zip(names, inputs, strict=not named)) | named
        if self._scores:
            return self._score(**arguments)
        if self._max_new_tokens:
            tokens = self._generate(self._max_new_tokens, **arguments)
            return self.tokenise.decode(tokens) if self._decodes else tokens
        outputs = self.model(**arguments, return_dict=True)
        if "logits" in outputs:
            mask = arguments.get("attention_mask")
            return _of_tokens(outputs["logits"], mask) if self._is_per_token and mask is not None else outputs["logits"]
        if "last_hidden_state" not in outputs:
            return outputs
        return self._pool(outputs["last_hidden_state"], arguments.get("attention_mask"))

    def _score(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        scored: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The natural logarithm of the probability of the scored tokens, each after those before it: `(batch,)`."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if scored is None:
            scored = attention_mask.bool()
        outputs = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, return_dict=True)
        likely = torch.log_softmax(outputs["logits"][:, :-1].float(), dim=-1)
        likely = likely.gather(2, input_ids[:, 1:, None])[..., 0]
        found: torch.Tensor = torch.where(scored[:, 1:], likely, 0).sum(dim=1)
        return found

    def _pool(self, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """`(batch, length, width)` to `(batch, width)`."""
        if self._pooling == "cls":
            return hidden[:, 0]
        if mask is None:
            mask = hidden.new_ones(hidden.shape[:2])
        if self._pooling == "last":
            return hidden[torch.arange(len(hidden), device=hidden.device), mask.long().sum(dim=1) - 1]
        weights = mask[..., None].to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1)

    def _generate(
        self, max_new_tokens: int, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Token ids `(batch, max_new_tokens)`; after its end a row is filled up with the padding token."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        lengths = attention_mask.long().sum(dim=1)
        longest = input_ids.shape[1]  # new tokens are added at the right: so rows are moved there
        places = torch.arange(longest, device=input_ids.device) - (longest - lengths)[:, None]
        moved = torch.where(places >= 0, input_ids.gather(1, places.clamp(min=0)), 0)
        padding = self._padding_token()
        found = self.model.generate(
            input_ids=moved,
            attention_mask=(places >= 0).long(),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            pad_token_id=padding,
        )[:, longest:]
        missing = max_new_tokens - found.shape[1]  # where all rows of the batch have ended sooner
        tokens: torch.Tensor = nn.functional.pad(found, (0, missing), value=padding)
        return tokens

    def _padding_token(self) -> int:
        for settings in (self.model.generation_config, self.model.config):
            for name in ("pad_token_id", "eos_token_id"):
                token = getattr(settings, name, None)
                if token is not None:
                    return int(token[0] if isinstance(token, list) else token)
        return 0


def to_be_scored(tokenise: Any, max_length: int | None, *texts: list[str], keeps_start: bool = False) -> Tokens:
    """A causal model's arguments for texts, and which of the tokens are to be scored.

    Args:
        tokenise: of the model.
        max_length: of a row in tokens; what is longer loses its beginning.
        texts: one column, of which all is scored that follows its first token; or two, what is given and what is
            scored as its continuation.
        keeps_start: what is too long loses its end instead.

    Raises:
        ModelError: there are more columns.
    """
    if len(texts) > 2:
        raise ModelError(f"score takes one or two columns of text, not {len(texts)}: what is given, and what follows")
    follows = tokenise(list(texts[-1]), add_special_tokens=len(texts) == 1)["input_ids"]
    given = tokenise(list(texts[0]))["input_ids"] if len(texts) == 2 else [[]] * len(follows)
    whole = [before + after for before, after in zip(given, follows, strict=True)]
    rows = [row[:max_length] if keeps_start else row[-(max_length or _NO_LIMIT) :] for row in whole]
    ids = torch.full((len(rows), max([1, *map(len, rows)])), tokenise.pad_token_id or 0)
    mask, scored = torch.zeros_like(ids), torch.zeros(ids.shape, dtype=torch.bool)
    lost = [len(full) - len(row) for full, row in zip(whole, rows, strict=True)]
    for index, (row, before) in enumerate(zip(rows, given, strict=True)):
        ids[index, : len(row)] = torch.tensor(row, dtype=ids.dtype)
        mask[index, : len(row)] = 1
        scored[index, max(0, len(before) - (0 if keeps_start else lost[index])) : len(row)] = True
    return Tokens({"input_ids": ids, "attention_mask": mask, "scored": scored}, lost, max_length)


def _of_tokens(logits: torch.Tensor, mask: torch.Tensor) -> RaggedTensor:
    """`(batch, length, labels)` without what stands for padding: for each row `(its length, labels)`."""
    return RaggedTensor(logits[mask.bool()], mask.long().sum(dim=1))
