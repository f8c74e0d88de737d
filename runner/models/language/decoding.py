"""Generation of tokens by Transformers' `generate`, with the settings, noise and end of each row by itself.

The library runs the model and its cache; here each next token is chosen. A row is processed by the library's own logits
processors, and where these look at tokens, they see the row without its padding: so an answer does not depend on the
other rows of its batch.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from runner.models.language.sampling import Key, sample
from runner.models.language.settings import padding_token, reads_each_row

LENGTH, STOP = "length", "stop"
REASONS = (LENGTH, STOP)
# settings of a folder that `generate` itself reads
_OF_THE_LOOP = ("use_cache", "cache_implementation", "cache_config", "bos_token_id", "decoder_start_token_id")


@dataclass(frozen=True)
class Asked:
    """What is asked for one row, or for several.

    Attributes:
        settings: resolved generation settings, `GenerationConfig`.
        max_new_tokens: the most tokens of the answer.
        stop: strings that end the answer and are not part of it.
    """

    settings: Any
    max_new_tokens: int
    stop: tuple[str, ...] = ()


def generate(
    model: Any, tensors: Mapping[str, torch.Tensor], asked: Sequence[Asked], keys: Sequence[Key], tokenizer: Any = None
) -> dict[str, torch.Tensor]:
    """Generate an answer to each row.

    Args:
        model: model of Transformers, with `neutral_settings` as its generation settings.
        tensors: `input_ids` and `attention_mask`, `(batch, length)`, left-aligned rows, and others of that shape.
        asked: what is asked for each row.
        keys: keys of the noise of each row.
        tokenizer: tokenizer of the model, where anything of `asked` is text.

    Returns:
        `tokens`, int64 `(batch, most)`, where `most` is the largest number of tokens asked for, padded after the end;
        `num_tokens`, int64 `(batch,)`, without padding; `reasons`, int64 `(batch,)`, positions in `REASONS`.

    Raises:
        ValueError: a setting is not valid for the model.
    """
    is_both = model.config.is_encoder_decoder
    given = dict(tensors) if is_both else right_aligned(tensors)
    most = max(one.max_new_tokens for one in asked)
    settings = copy.copy(model.generation_config)
    settings.max_new_tokens = most
    answers = _Answers(model, tensors, asked, keys, tokenizer)
    model.generate(
        **given,
        generation_config=settings,
        logits_processor=[_Choice(answers)],
        stopping_criteria=[_End(answers)],
    )
    padding = settings.pad_token_id
    device = tensors["input_ids"].device
    return {
        "tokens": torch.tensor([row + [padding] * (most - len(row)) for row in answers.tokens], device=device),
        "num_tokens": torch.tensor([len(row) for row in answers.tokens], device=device),
        "reasons": torch.tensor([REASONS.index(reason) for reason in answers.reasons], device=device),
    }


def neutral_settings(model: Any, settings: Any) -> Any:
    """Return settings with which `generate` of a model runs its loop and leaves the choice of tokens to others."""
    loop = {name: getattr(settings, name, None) for name in _OF_THE_LOOP}
    return type(settings)(do_sample=False, num_beams=1, pad_token_id=padding_token(model, settings), **loop)


def right_aligned(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return rows right-aligned in their batch, because new tokens are added at the end."""
    mask = tensors["attention_mask"]
    longest = mask.shape[1]
    places = torch.arange(longest, device=mask.device) - (longest - mask.long().sum(dim=1))[:, None]
    moved = {
        name: torch.where(places >= 0, tensor.gather(1, places.clamp(min=0)), 0)
        for name, tensor in tensors.items()
        if tensor.shape == mask.shape
    }
    return {**moved, "attention_mask": (places >= 0).long()}


def make_processors(model: Any, asked: Asked, start: int, prompt: torch.Tensor | None = None) -> Any:
    """Return the logits processors of Transformers for settings.

    Args:
        model: model of Transformers.
        asked: holds the settings.
        start: number of tokens before the first new one.
        prompt: what the encoder of the model gets, `(1, length)`; None where the model has no encoder.

    Raises:
        ValueError: a setting is not valid.
    """
    settings = copy.copy(asked.settings)
    settings.max_length = start + asked.max_new_tokens
    model._prepare_special_tokens(settings, True, device=model.device)
    return model._get_logits_processor(
        settings, input_ids_seq_length=start, encoder_input_ids=prompt, device=model.device
    )


class _Answers:
    """The answers of a batch, while they grow.

    Args:
        model, tensors, asked, keys, tokenizer: see `generate`.

    Attributes:
        tokens: tokens of each answer so far.
        reasons: why each has ended; empty while it has not.
    """

    def __init__(
        self,
        model: Any,
        tensors: Mapping[str, torch.Tensor],
        asked: Sequence[Asked],
        keys: Sequence[Key],
        tokenizer: Any,
    ) -> None:
        self.tokens: list[list[int]] = [[] for _ in asked]
        self.reasons = [""] * len(asked)
        self._model = model
        self._asked = asked
        self._keys = keys
        self._tokenizer = tokenizer
        self._prompts = tensors["input_ids"]
        self._lengths: list[int] = tensors["attention_mask"].long().sum(dim=1).tolist()
        self._groups: list[_Group] = []
        self._criteria = [self._criterion(one.settings) for one in asked]
        self._ends = [_end_tokens(one.settings) for one in asked]

    def choose(self, ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Return the next token of each row, int64 `(batch,)`; any token where an answer has ended."""
        if not self._groups:
            self._groups = self._grouped(ids.shape[1])
        chosen = logits.argmax(dim=1)
        for group in self._groups:
            rows = [row for row in group.rows if not self.reasons[row]]
            if not rows or (not group.processors and not group.samples):
                continue
            scores = group.processors(ids[rows, group.padding :], logits[rows])
            if group.samples:
                tokens = [
                    sample(one, self._keys[row], len(self.tokens[row])) for row, one in zip(rows, scores, strict=True)
                ]
                chosen[rows] = torch.tensor(tokens, device=chosen.device)
            else:
                chosen[rows] = scores.argmax(dim=1)
        return chosen

    def end(self, ids: torch.Tensor) -> list[bool]:
        """Add the last tokens of `ids` to the answers; return for each whether it has ended."""
        for row, token in enumerate(ids[:, -1].tolist()):
            if not self.reasons[row]:
                self.tokens[row].append(token)
                self.reasons[row] = self._reason(row, token, ids)
        return [bool(reason) for reason in self.reasons]

    def _reason(self, row: int, token: int, ids: torch.Tensor) -> str:
        asked = self._asked[row]
        if token in self._ends[row]:
            return STOP
        if asked.stop and cut_at_stop(self._text(row), asked.stop) is not None:
            return STOP
        criterion = self._criteria[row]
        if criterion is not None and bool(criterion(ids[row : row + 1, self._padding(row) :], None)):
            return STOP
        return LENGTH if len(self.tokens[row]) == asked.max_new_tokens else ""

    def _text(self, row: int) -> str:
        text: str = self._tokenizer.decode(self.tokens[row], skip_special_tokens=True)
        return text

    def _criterion(self, settings: Any) -> Any:
        if not settings.stop_strings:
            return None
        from transformers import StopStringCriteria

        return StopStringCriteria(self._tokenizer, settings.stop_strings)

    def _padding(self, row: int) -> int:
        return 0 if self._model.config.is_encoder_decoder else self._prompts.shape[1] - self._lengths[row]

    def _grouped(self, start: int) -> list["_Group"]:
        """Return the rows in groups that are processed alike, each row by itself where its own tokens count."""
        together: dict[int, list[int]] = {}
        groups = []
        for row, asked in enumerate(self._asked):
            if reads_each_row(asked.settings):
                padding, prompt = self._padding(row), None
                if self._model.config.is_encoder_decoder:
                    prompt = self._prompts[row : row + 1, : self._lengths[row]]
                processors = make_processors(self._model, asked, start - padding, prompt)
                groups.append(_Group([row], processors, bool(asked.settings.do_sample), padding))
            else:
                together.setdefault(id(asked), []).append(row)
        for rows in together.values():
            asked = self._asked[rows[0]]
            groups.append(_Group(rows, make_processors(self._model, asked, start), bool(asked.settings.do_sample), 0))
        return groups


@dataclass(frozen=True)
class _Group:
    rows: list[int]
    processors: Any
    samples: bool
    padding: int


class _Choice:
    """A logits processor that leaves one token: the one that is chosen."""

    def __init__(self, answers: _Answers) -> None:
        self._answers = answers

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        chosen = self._answers.choose(input_ids, scores)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0.0)


class _End:
    """A stopping criterion: the end of each answer."""

    def __init__(self, answers: _Answers) -> None:
        self._answers = answers

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return torch.tensor(self._answers.end(input_ids), device=input_ids.device)


def cut_at_stop(text: str, stops: Sequence[str]) -> str | None:
    """Return the text before the first of these strings in it; None where none is in it."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else None


def _end_tokens(settings: Any) -> frozenset[int]:
    tokens = settings.eos_token_id
    return frozenset([] if tokens is None else [tokens] if isinstance(tokens, int) else tokens)
