"""Settings of the answer to a row, and the logits processors that follow them."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch

from runner.models.language.grammars import GrammarProcessor
from runner.models.language.settings import reads_each_row


@dataclass(frozen=True)
class Asked:
    """Settings of the answer to one row, or to several.

    Attributes:
        settings: resolved generation settings, `GenerationConfig`.
        max_new_tokens: the most tokens of the answer.
        stop: strings that end the answer and are not part of it.
        frequency_penalty, presence_penalty: taken off the logit of a token for each time it is in the answer, or once.
        num_logprobs: number of likely tokens whose log-probabilities are told at each position, beside that of the
            token itself; None for none at all.
        grammar: that the answer follows, see `grammars.grammar_of`; "" for none.
    """

    settings: Any
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    num_logprobs: int | None = None
    grammar: str = ""

    @property
    def reads_each_row(self) -> bool:
        """Whether a row must be processed by itself, without its padding."""
        return bool(self.frequency_penalty or self.presence_penalty or self.grammar) or reads_each_row(self.settings)

    @property
    def needs_tokenizer(self) -> bool:
        """Whether anything of it is text."""
        return bool(self.stop or self.settings.stop_strings or self.grammar)

    @property
    def ends(self) -> frozenset[int]:
        """The tokens that end the answer."""
        tokens = self.settings.eos_token_id
        return frozenset([] if tokens is None else [tokens] if isinstance(tokens, int) else tokens)


def with_special_stops(asked: Asked, tokenizer: Any) -> Asked:
    """Return the same with tokens that end the answer for stop strings that are special tokens, which no text shows."""
    known = tokenizer.get_added_vocab()
    special = {known[text] for text in asked.stop if text in known}
    if not special:
        return asked
    settings = copy.copy(asked.settings)
    settings.eos_token_id = sorted(asked.ends | special)
    return replace(asked, settings=settings)


def make_processors(
    model: Any, asked: Asked, start: int, prompt: torch.Tensor | None = None, tokenizer: Any = None
) -> Any:
    """Return the logits processors of Transformers for settings.

    Args:
        model: model of Transformers.
        asked: holds the settings.
        start: number of tokens before the first new one.
        prompt: the prompt of the row, `(1, length)`; None for several rows, where no setting looks at it.
        tokenizer: tokenizer of the model, where there is a grammar.

    Raises:
        ValueError: a setting is not valid.
    """
    settings = copy.copy(asked.settings)
    settings.max_length = start + asked.max_new_tokens
    model._prepare_special_tokens(settings, True, device=model.device)
    own: list[Any] = [_Penalties(asked, start)] if asked.frequency_penalty or asked.presence_penalty else []
    if asked.grammar:
        own.append(GrammarProcessor(asked.grammar, tokenizer, sorted(asked.ends), start))
    return model._get_logits_processor(
        settings,
        input_ids_seq_length=start,
        encoder_input_ids=prompt,
        logits_processor=own,
        device=model.device,
    )


class _Penalties:
    """A logits processor that makes the tokens of an answer less likely to come again, as OpenAI's API defines it."""

    def __init__(self, asked: Asked, start: int) -> None:
        self._asked = asked
        self._start = start

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        answer = input_ids[:, self._start :]
        counts = torch.zeros_like(scores).scatter_add_(1, answer, torch.ones_like(answer, dtype=scores.dtype))
        asked = self._asked
        return scores - asked.frequency_penalty * counts - asked.presence_penalty * (counts > 0)
