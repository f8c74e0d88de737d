"""Models and tokenisers of Transformers as they are called with a batch."""

import functools
import inspect
import threading
from pathlib import Path
from typing import Any

import torch

from runner.config import Config
from runner.errors import ModelError, describe
from runner.models.generation import generate, logits_of_new, reads_the_prompt
from runner.models.heads import pick, pool
from runner.models.lengths import BY_LENGTH, PADDED, call_apart, find_way
from runner.models.scoring import log_likelihoods

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
    arguments, is cut off.
    """

    def __init__(self, transformers: Any, folder: str, config: Config) -> None:
        self._transformers, self._folder = transformers, folder
        self._name, self._trust_code = config.model, config.trust_code
        self._max_length: int | None = config.model_args.get("max_length")
        self._max_new_tokens: int = config.model_args.get("max_new_tokens", 0)
        self._scores = bool(config.model_args.get("score"))
        self._lock = threading.Lock()  # the reader's thread and the search for bad rows; it is not made for two

    def __call__(self, *texts: list[str]) -> dict[str, torch.Tensor]:
        """The model's arguments for a batch of texts, or of pairs of texts.

        Raises:
            ModelError: there is no tokeniser in the folder.
        """
        with self._lock:
            tokenise, max_length = self._loaded
            if self._scores:
                return to_be_scored(tokenise, max_length, *texts)
            found = tokenise(
                *texts, padding=True, truncation=max_length is not None, max_length=max_length, return_tensors="pt"
            )
        return dict(found)

    def decode(self, tokens: torch.Tensor) -> list[str]:
        """The text of token ids `(batch, length)`, without special ones.

        Raises:
            ModelError: there is no tokeniser in the folder.
        """
        with self._lock:
            found: list[str] = self._loaded[0].batch_decode(tokens, skip_special_tokens=True)
        return found

    @property
    def library(self) -> Any:
        """The tokeniser as Transformers has it.

        Raises:
            ModelError: there is no tokeniser in the folder.
        """
        with self._lock:
            return self._loaded[0]

    @functools.cached_property
    def _loaded(self) -> tuple[Any, int | None]:
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
        positions = getattr(settings, "max_position_embeddings", None) or _NO_LIMIT
        limits = [self._max_length, tokenise.model_max_length, max(1, positions - self._max_new_tokens)]
        known = [limit for limit in limits if limit and limit < _NO_LIMIT - self._max_new_tokens]
        return tokenise, min(known, default=None)


class Pretrained:
    """Calls a model of Transformers by the names of its inputs, and picks what it is run for.

    Rows of unlike lengths are padded where padding changes no answer of the model; where it does, rows of one length
    are computed together.

    Args:
        model: the model.
        generates: whether it is run to add tokens.
        options: `pooling` for a model without a head; `max_new_tokens` for a causal one, and `decode` for text instead
            of tokens; or `score`, for how likely it holds what is there.
        tokenise: from text, or several columns of it, to the model's arguments.
    """

    def __init__(self, model: Any, generates: bool, options: dict[str, Any], tokenise: Tokeniser) -> None:
        self.tokenise, self._decodes = tokenise, bool(options.get("decode"))
        self.model, self._options, self._pooling = model, options, options.get("pooling", "mean")
        self._scores = bool(options.get("score"))
        self._max_new_tokens = options["max_new_tokens"] if generates and not self._scores else None
        self._bare = getattr(model, "_orig_mod", model)  # without what torch.compile puts around it
        self._parameters = inspect.signature(self._bare.forward).parameters
        self._text_settings = self._bare.config.get_text_config()

    def __call__(self, *inputs: torch.Tensor, **named: torch.Tensor) -> Any:
        main = self._bare.main_input_name
        names = (main, "attention_mask") if len(inputs) == 2 else (main,)
        arguments = dict(zip(names, inputs, strict=not named)) | named
        mask = arguments.get("attention_mask")
        if mask is not None:
            arguments["attention_mask"] = mask.long()  # some compute with it
        if self._scores:
            return self._score(**arguments)
        call = self._generate if self._max_new_tokens else self._predict
        if mask is None and self._max_new_tokens:
            arguments["attention_mask"] = torch.ones_like(arguments["input_ids"])
        if "attention_mask" in arguments and self._way != PADDED:
            found = call_apart(call, self._way, arguments)
        else:
            found = call(**arguments)
        return self.tokenise.decode(found) if self._max_new_tokens and self._decodes else found

    def _predict(self, **arguments: torch.Tensor) -> Any:
        mask = arguments.get("attention_mask")
        padding, ids = getattr(self._text_settings, "pad_token_id", None), arguments.get("input_ids")
        if mask is not None and padding is not None and ids is not None and ids.shape == mask.shape:
            # classifiers of causal models look for it, to find the last token
            known = 0 <= padding < (getattr(self._text_settings, "vocab_size", None) or 0)
            arguments["input_ids"] = torch.where(mask.bool(), ids, padding if known else 0)
        outputs = self._call(self.model, **arguments)
        found = pick(outputs, type(self._bare).__name__, mask)
        if found is not None:
            if "pooling" in self._options:
                raise ModelError(f"pooling does not apply: {type(self._bare).__name__} gives more than hidden states")
            return found
        special = None
        if self._pooling == "mean_tokens" and ids is not None:
            special = torch.isin(ids, torch.tensor(self._special_ids, device=ids.device))
        return pool(outputs["last_hidden_state"], self._pooling, mask, special)

    def _call(self, model: Any, **arguments: Any) -> Any:
        """What the model gives, called with a mask only where it takes one."""
        if "attention_mask" not in self._parameters:
            arguments.pop("attention_mask", None)
        return model(**arguments, return_dict=True)

    def _generate(self, **arguments: torch.Tensor) -> torch.Tensor:
        tokenizer = self.tokenise.library if getattr(self._bare.generation_config, "stop_strings", None) else None
        assert self._max_new_tokens is not None
        return generate(self.model, self._max_new_tokens, arguments, tokenizer)

    @functools.cached_property
    def _special_ids(self) -> list[int]:
        """The tokens that are no part of a text; one that stands for an unknown word is."""
        try:
            tokenizer = self.tokenise.library
        except ModelError as error:
            raise ModelError(f"pooling mean_tokens needs the folder's tokeniser: {error.message}") from error
        return sorted({*tokenizer.all_special_ids} - {tokenizer.unk_token_id, tokenizer.mask_token_id})

    @functools.cached_property
    def _way(self) -> str:
        """Which rows may be in one batch: PADDED, BY_LENGTH or ALONE."""
        generates, names = bool(self._max_new_tokens), self._parameters
        if "input_ids" not in names:
            return BY_LENGTH  # of sounds: normalization and convolutions see padding, whatever the mask
        ways = [PADDED, BY_LENGTH]
        if "attention_mask" not in names or (generates and reads_the_prompt(self._bare.generation_config)):
            ways = [BY_LENGTH]

        def answer(**arguments: torch.Tensor) -> Any:
            if generates:
                return logits_of_new(self._bare, arguments)
            found = self._call(self._bare, **arguments)
            head = pick(found, type(self._bare).__name__, None)
            head = found["last_hidden_state"] if head is None else head
            return next(iter(head.values())) if isinstance(head, dict) else head

        num_tokens = getattr(self._text_settings, "vocab_size", None) or 1
        device = next(self._bare.parameters()).device
        # whole numbers of 8 bits: their scale is that of the batch
        is_coarse = any("quantized" in type(module).__module__ for module in self._bare.modules())
        return find_way(answer, ways, num_tokens, device, is_coarse)

    def _score(self, scored: torch.Tensor | None = None, **arguments: torch.Tensor) -> torch.Tensor:
        ids = arguments["input_ids"]
        mask = arguments.setdefault("attention_mask", torch.ones_like(ids))
        outputs = self._call(self.model, **arguments, use_cache=False)
        return log_likelihoods(outputs["logits"], ids, mask.bool() if scored is None else scored)


def to_be_scored(tokenise: Any, max_length: int | None, *texts: list[str]) -> dict[str, torch.Tensor]:
    """A causal model's arguments for texts, and which of the tokens are to be scored.

    Args:
        tokenise: of the model.
        max_length: of a row in tokens; what is longer loses its beginning.
        texts: one column, of which all is scored that follows its first token; or two, what is given and what is
            scored as its continuation.

    Raises:
        ModelError: there are more columns.
    """
    if len(texts) > 2:
        raise ModelError(f"score takes one or two columns of text, not {len(texts)}: what is given, and what follows")
    follows = tokenise(list(texts[-1]), add_special_tokens=len(texts) == 1)["input_ids"]
    given = tokenise(list(texts[0]))["input_ids"] if len(texts) == 2 else [[]] * len(follows)
    rows = [(before + after)[-(max_length or _NO_LIMIT) :] for before, after in zip(given, follows, strict=True)]
    ids = torch.full((len(rows), max([1, *map(len, rows)])), tokenise.pad_token_id or 0)
    mask, scored = torch.zeros_like(ids), torch.zeros(ids.shape, dtype=torch.bool)
    for index, (row, after) in enumerate(zip(rows, follows, strict=True)):
        ids[index, : len(row)] = torch.tensor(row, dtype=ids.dtype)
        mask[index, : len(row)] = 1
        scored[index, max(0, len(row) - len(after)) : len(row)] = True
    return {"input_ids": ids, "attention_mask": mask, "scored": scored}
