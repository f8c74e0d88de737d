"""A model of Transformers that answers each row with new tokens, or with their text."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from runner.core.errors import UsageError, describe
from runner.models.language.decoding import (
    REASONS,
    Asked,
    cut_at_stop,
    generate,
    make_processors,
    neutral_settings,
    right_aligned,
)
from runner.models.language.sampling import Key
from runner.models.language.settings import SETTINGS, resolve

DEFAULT_SEED = 0
Tensors = Mapping[str, torch.Tensor]


def what_is_asked(settings: Any, options: Mapping[str, Any]) -> Asked:
    """Return what the options ask of each row.

    Args:
        settings: generation settings of the folder.
        options: `--model-args`.

    Raises:
        UsageError: a setting is not valid.
    """
    try:
        resolved = resolve(settings, given_settings(options))
    except (TypeError, ValueError) as error:
        raise UsageError(f"--model-args: {describe(error)}") from error
    stop = options.get("stop", ())
    return Asked(resolved, options["max_new_tokens"], (stop,) if isinstance(stop, str) else tuple(stop))


def given_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the generation settings among `--model-args`."""
    return {name: options[name] for name in SETTINGS if name in options}


class Generator:
    """A model that generates.

    Args:
        model: model of Transformers; its generation settings are replaced.
        asked: what is asked of each row.
        options: `--model-args`.
        tokenizer: returns the model's tokenizer; called where text is needed.

    Attributes:
        samples: whether tokens are drawn, so that an answer depends on the number of its row.

    Raises:
        UsageError: a setting is not valid for the model.
    """

    def __init__(self, model: Any, asked: Asked, options: Mapping[str, Any], tokenizer: Callable[[], Any]) -> None:
        self._model = model
        self._asked = asked
        self._gives_text = bool(options.get("decode"))
        self._seed = options.get("seed", DEFAULT_SEED)
        self.samples = bool(asked.settings.do_sample)
        model.generation_config = neutral_settings(model, asked.settings)
        self._tokenizer = tokenizer
        if self._needs_tokenizer:
            tokenizer()
        try:
            make_processors(model, asked, 1, torch.zeros((1, 1), dtype=torch.long, device=model.device))
        except (TypeError, ValueError) as error:
            raise UsageError(f"--model-args: {describe(error)}") from error

    def __call__(self, call: Callable[..., Any], arguments: Tensors, numbers: Sequence[int]) -> Any:
        """Return the answers to a batch.

        Args:
            call: calls a function with rows that may be in one batch; see `lengths.call_apart`.
            arguments: `input_ids` and `attention_mask`, `(batch, length)`, left-aligned rows.
            numbers: numbers of the rows.

        Returns:
            Tokens, int64 `(batch, max_new_tokens)`, padded after the end; or by name the texts, why they ended, and
            the numbers of tokens of prompts and answers, int64 `(batch,)`.
        """
        device = arguments["input_ids"].device
        result = call(self._generate, {**arguments, "row_numbers": torch.tensor(numbers, device=device)})
        if not self._gives_text:
            return result["tokens"]
        return {
            "text": self._texts(result["tokens"].tolist(), result["num_tokens"].tolist()),
            "finish_reason": [REASONS[reason] for reason in result["reasons"].tolist()],
            "prompt_tokens": arguments["attention_mask"].long().sum(dim=1),
            "completion_tokens": result["num_tokens"],
        }

    def _generate(self, row_numbers: torch.Tensor, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
        keys = [Key(self._seed, row) for row in row_numbers.tolist()]
        tokenizer = self._tokenizer() if self._needs_tokenizer else None
        return generate(self._model, tensors, [self._asked] * len(keys), keys, tokenizer)

    @functools.cached_property
    def _needs_tokenizer(self) -> bool:
        return self._gives_text or bool(self._asked.stop or self._asked.settings.stop_strings)

    def _texts(self, tokens: list[list[int]], lengths: list[int]) -> list[str]:
        answers = [row[:length] for row, length in zip(tokens, lengths, strict=True)]
        texts = self._tokenizer().batch_decode(answers, skip_special_tokens=True)
        if not self._asked.stop:
            return list(texts)
        return [text if (cut := cut_at_stop(text, self._asked.stop)) is None else cut for text in texts]


def logits_of_new(model: Any, tensors: Tensors) -> torch.Tensor:
    """Return the logits `(batch, 2, tokens)` of two new tokens of each row, for comparison; the first token is fixed.

    Args:
        model: model of Transformers, with neutral generation settings.
        tensors: `input_ids` and `attention_mask`, `(batch, length)`, left-aligned rows.
    """
    token = 1
    generated = model.generate(
        **(tensors if model.config.is_encoder_decoder else right_aligned(tensors)),
        max_new_tokens=2,
        pad_token_id=token,
        prefix_allowed_tokens_fn=lambda row, ids: [token],
        return_dict_in_generate=True,
        output_logits=True,
    )
    return torch.stack(generated.logits, dim=1)
