"""Generation of tokens by Transformers' `generate`, which runs the model and its cache; each token is chosen here."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from runner.models.language.answers import REASONS, Answers
from runner.models.language.asked import Asked
from runner.models.language.sampling import Key
from runner.models.language.settings import padding_token

# settings of a folder that `generate` itself reads
_OF_THE_LOOP = ("use_cache", "cache_implementation", "cache_config", "bos_token_id", "decoder_start_token_id")


def generate(
    model: Any,
    tensors: Mapping[str, torch.Tensor],
    asked: Sequence[Asked],
    keys: Sequence[Key],
    width: int,
    num_logprobs: int = -1,
    tokenizer: Any = None,
) -> dict[str, torch.Tensor]:
    """Generate an answer to each row.

    Args:
        model: model of Transformers, with `neutral_settings` as its generation settings.
        tensors: `input_ids` and `attention_mask`, `(batch, length)`, left-aligned rows, and others of that shape.
        asked: what is asked for each row.
        keys: keys of the noise of each row.
        width: number of columns of the result, at least the largest number of tokens asked for.
        num_logprobs: number of likely tokens at each position to tell of, beside the token itself; -1 for nothing.
        tokenizer: tokenizer of the model, where anything of `asked` is text.

    Returns:
        `tokens`, int64 `(batch, width)`, padded after the end; `num_tokens`, int64 `(batch,)`, without padding;
        `reasons`, int64 `(batch,)`, positions in `REASONS`. Where log-probabilities are asked for, also `likely`, int64
        `(batch, width, 1 + num_logprobs)`: each token and the most likely ones, and `logprobs`, float32 of that shape,
        of the model's own logits.

    Raises:
        ValueError: a setting is not valid for the model.
    """
    is_both = model.config.is_encoder_decoder
    given = dict(tensors) if is_both else right_aligned(tensors)
    settings = copy.copy(model.generation_config)
    settings.max_new_tokens = max(one.max_new_tokens for one in asked)
    answers = Answers(model, tensors, asked, keys, num_logprobs, tokenizer)
    model.generate(
        **given,
        generation_config=settings,
        logits_processor=[_Choice(answers)],
        stopping_criteria=[_End(answers)],
    )
    padding = settings.pad_token_id
    device = tensors["input_ids"].device
    result = {
        "tokens": torch.tensor([row + [padding] * (width - len(row)) for row in answers.tokens], device=device),
        "num_tokens": torch.tensor([len(row) for row in answers.tokens], device=device),
        "reasons": torch.tensor([REASONS.index(reason) for reason in answers.reasons], device=device),
    }
    if answers.likely:
        room = (0, 0, 0, width - len(answers.likely))
        result["likely"] = nn.functional.pad(torch.stack(answers.likely, dim=1), room)
        result["logprobs"] = nn.functional.pad(torch.stack(answers.logprobs, dim=1), room)
    return result


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


def logits_of_new(model: Any, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
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


class _Choice:
    """A logits processor that leaves one token: the one that is chosen."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        chosen = self._answers.choose(input_ids, scores)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0.0)


class _End:
    """A stopping criterion: the end of each answer."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return torch.tensor(self._answers.end(input_ids), device=input_ids.device)
