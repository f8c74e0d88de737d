"""Models of Transformers, called with batches."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch

from runner.core.errors import ModelError
from runner.models.images.outputs import pick_output
from runner.models.images.processor import ImageProcessor
from runner.models.language.asked import Asked
from runner.models.language.decoding import logits_of_new
from runner.models.language.generator import Generator
from runner.models.language.request_encoder import RequestEncoder
from runner.models.language.requests import Request
from runner.models.transformers.heads_and_pooling import pick, pool
from runner.models.transformers.lengths import BY_LENGTH, PADDED, call_apart, find_way
from runner.models.transformers.scoring import log_likelihoods
from runner.models.transformers.tokenizer import FolderTokenizer


class Pretrained:
    """A model of Transformers, called by the names of its inputs, with a selection of its outputs.

    Variable-length rows are padded where padding does not change the outputs of the model; where it does, rows of one
    length are computed together.

    Args:
        model: the model.
        asked: what is asked of each row, where it generates tokens; else None.
        options: `pooling` for a model without a head; `decode` for text instead of tokens; or `score`, for the
            likelihood of the given text.
        tokenize_texts: maps one or several columns of text to the model's arguments.
        images: prepares images for the model.
        requests: makes prompts of rows that are requests; None where they are none.

    Attributes:
        requests: see above.
        tokenize_texts: see above.
        count_tokens: maps columns of text to the number of tokens of each row.
        truncate: what happens by default to texts that are too long; see `Config.truncate`.
        wants_row_numbers: whether it is called with the numbers of the rows, as `row_numbers`.

    Raises:
        UsageError: a generation setting is not valid for the model.
    """

    takes_device_tensors = True

    def __init__(
        self,
        model: Any,
        asked: Asked | None,
        options: dict[str, Any],
        tokenize_texts: FolderTokenizer,
        images: ImageProcessor,
        requests: RequestEncoder | None = None,
    ) -> None:
        self.requests = requests
        self._images = images
        self.tokenize_texts = tokenize_texts
        self.count_tokens = tokenize_texts.lengths
        self.model = model
        self._options = options
        self._pooling = options.get("pooling", "mean")
        self._scores = bool(options.get("score"))
        self._bare = getattr(model, "_orig_mod", model)  # without the wrapper of torch.compile
        self._parameters = inspect.signature(self._bare.forward).parameters
        self._text_settings = self._bare.config.get_text_config()
        self._generator: Generator | None = None
        if asked is not None:
            self._generator = Generator(self._bare, asked, options, tokenize_texts.copy)
        self.truncate = "refuse" if self._generator else None
        self.wants_row_numbers = self._generator is not None and (self._generator.samples or requests is not None)

    @property
    def inspected_module(self) -> Any:
        """The module that `inspect` describes."""
        return self.model

    def inspected_facts(self) -> dict[str, str]:
        """Return what `inspect` tells beside the module: how answers are generated."""
        return {} if self._generator is None else self._generator.facts()

    def prepare_images(self, batch: Any, ids: Sequence[int]) -> dict[str, torch.Tensor] | None:
        """Return the model's arguments for a batch of images; see `ImageProcessor.__call__`."""
        return self._images(batch, ids, self.model.dtype)

    def __call__(
        self,
        *inputs: torch.Tensor,
        row_numbers: torch.Tensor | None = None,
        requests: Sequence[Request] | None = None,
        **named: torch.Tensor,
    ) -> Any:
        main = self._bare.main_input_name
        names = (main, "attention_mask") if len(inputs) == 2 else (main,)
        arguments = dict(zip(names, inputs, strict=not named)) | named
        mask = arguments.get("attention_mask")
        if mask is not None:
            arguments["attention_mask"] = mask.long()  # some models do arithmetic with it
        if self._scores:
            return self._score(**arguments)
        if self._generator is not None:
            ids = arguments["input_ids"]
            arguments.setdefault("attention_mask", torch.ones_like(ids))
            numbers = range(len(ids)) if row_numbers is None else row_numbers.tolist()
            if requests is not None:
                return self._generator.respond(self._in_batches, arguments, requests, numbers)
            return self._generator(self._in_batches, arguments, numbers)
        return self._in_batches(self._predict, arguments)

    def take_counts(self) -> dict[str, list[int]]:
        """Return what was counted in each row of the last batch, by name; nothing where nothing was."""
        return {} if self._generator is None else self._generator.counts

    def _in_batches(self, call: Callable[..., Any], arguments: dict[str, torch.Tensor]) -> Any:
        """Call a function with all rows of a batch, or with those that do not affect each other."""
        if "attention_mask" in arguments and self._way != PADDED:
            return call_apart(call, self._way, arguments)
        return call(**arguments)

    def _predict(self, **arguments: torch.Tensor) -> Any:
        mask = arguments.get("attention_mask")
        padding = getattr(self._text_settings, "pad_token_id", None)
        ids = arguments.get("input_ids")
        if mask is not None and padding is not None and ids is not None and ids.shape == mask.shape:
            # classifiers based on causal models search for padding, to find the last token
            known = 0 <= padding < (getattr(self._text_settings, "vocab_size", None) or 0)
            arguments["input_ids"] = torch.where(mask.bool(), ids, padding if known else 0)
        outputs = self._call(self.model, **arguments)
        if self._bare.main_input_name == "pixel_values":
            return pick_output(outputs, self._options.get("pooling"))
        result = pick(outputs, type(self._bare).__name__, mask)
        if result is not None:
            if "pooling" in self._options:
                raise ModelError(f"pooling does not apply: {type(self._bare).__name__} gives more than hidden states")
            return result
        special = None
        if self._pooling == "mean_tokens" and ids is not None:
            special = torch.isin(ids, torch.tensor(self._special_ids, device=ids.device))
        return pool(outputs["last_hidden_state"], self._pooling, mask, special)

    def _call(self, model: Any, **arguments: Any) -> Any:
        """Return the outputs of the model, called with a mask only where it takes one."""
        if "attention_mask" not in self._parameters:
            arguments.pop("attention_mask", None)
        return model(**arguments, return_dict=True)

    @functools.cached_property
    def _special_ids(self) -> list[int]:
        """The token ids that are not part of a text, without those for unknown words and masks, which are."""
        try:
            tokenizer = self.tokenize_texts.library
        except ModelError as error:
            raise ModelError(f"pooling mean_tokens needs the folder's tokenizer: {error.message}") from error
        return sorted({*tokenizer.all_special_ids} - {tokenizer.unk_token_id, tokenizer.mask_token_id})

    @functools.cached_property
    def _way(self) -> str:
        """The kind of batches whose rows do not affect each other: PADDED, BY_LENGTH or ALONE."""
        generates = self._generator is not None
        names = self._parameters
        if "input_ids" not in names:
            return BY_LENGTH  # sound: normalization and convolutions see padding, whatever the mask
        ways = [PADDED, BY_LENGTH]
        if "attention_mask" not in names:
            ways = [BY_LENGTH]

        def answer(**arguments: torch.Tensor) -> Any:
            if generates:
                return logits_of_new(self._bare, arguments)
            result = self._call(self._bare, **arguments)
            head = pick(result, type(self._bare).__name__, None)
            head = result["last_hidden_state"] if head is None else head
            return next(iter(head.values())) if isinstance(head, dict) else head

        num_tokens = getattr(self._text_settings, "vocab_size", None) or 1
        device = next(self._bare.parameters()).device
        return find_way(answer, ways, num_tokens, device)

    def _score(self, scored: torch.Tensor | None = None, **arguments: torch.Tensor) -> torch.Tensor:
        ids = arguments["input_ids"]
        mask = arguments.setdefault("attention_mask", torch.ones_like(ids))
        outputs = self._call(self.model, **arguments, use_cache=False)
        return log_likelihoods(outputs["logits"], ids, mask.bool() if scored is None else scored)
