"""Predictions of Transformers models: the outputs of the head, or the hidden states pooled to a vector a row."""

import re
from collections.abc import Mapping
from typing import Any

import torch

from runner.core.errors import ModelError
from runner.data.tensors import RaggedTensor

# outputs with a value for each token (or frame), by the class of the model
_PER_TOKEN = {
    r"For(TokenClassification|MaskedLM|CTC|AudioFrameClassification)$|LMHeadModel$": ("logits",),
    r"ForQuestionAnswering$": ("start_logits", "end_logits"),
    r"ForPreTraining$": ("logits", "prediction_logits"),
}
# outputs for training, for the next call or for inspection; and outputs that compare the rows of a batch
_INNER = re.compile(r"hidden_states?$|attentions$|past_key_values|^cache|states?$|^mems$|loss$|^logits_per_")
_HIDDEN = "last_hidden_state"
_POOLED = "pooler_output"
_HEAD = re.compile(r"For[A-Z]|LMHead|WithProjection|DoubleHeads|MTModel")


def has_head(class_name: str) -> bool:
    """Return whether a class of Transformers has other outputs than hidden states, judged by its name."""
    return bool(_HEAD.search(class_name))


def pick(outputs: Any, class_name: str, mask: torch.Tensor | None) -> Any:
    """Return the outputs of a model's head: one, or several by name; None where it has none.

    Args:
        outputs: outputs of the model.
        class_name: class of the model, which decides which outputs are per token.
        mask: `(batch, length)`, true where there is a token; None where all rows have the same length.

    Returns:
        Tensors with one entry per row; where there is a mask, outputs per token as `RaggedTensor`.

    Raises:
        ModelError: an output that should have one item per token does not; there is no prediction among the outputs.
    """
    if not isinstance(outputs, Mapping):
        return outputs
    if not has_head(class_name) and _HIDDEN in outputs and "logits" not in outputs:
        return None
    per_token = next((names for pattern, names in _PER_TOKEN.items() if re.search(pattern, class_name)), ())
    chosen = {
        name: of_tokens(value, mask, f"{class_name} gives {name}") if name in per_token and mask is not None else value
        for name, value in outputs.items()
        if isinstance(value, torch.Tensor) and value.ndim and name != _POOLED and not _INNER.search(name)
    }
    if not chosen and not isinstance(outputs.get(_HIDDEN), torch.Tensor):
        if isinstance(outputs.get(_POOLED), torch.Tensor):
            return outputs[_POOLED]
        raise ModelError(f"{class_name} gives {', '.join(outputs)}, and nothing of that is a prediction")
    return None if not chosen else chosen if len(chosen) > 1 else next(iter(chosen.values()))


def of_tokens(values: torch.Tensor, mask: torch.Tensor, what: str) -> RaggedTensor:
    """Remove the padding from `(batch, length, ...)`: each row becomes `(its length, ...)`."""
    if bool(mask.all()):  # all rows have one length, in whatever unit: there are fewer frames than samples
        lengths = torch.full((len(values),), values.shape[1], device=values.device)
        return RaggedTensor(values.flatten(0, 1), lengths)
    if values.shape[:2] != mask.shape:
        raise ModelError(f"{what} of shape {tuple(values.shape)} for tokens of shape {tuple(mask.shape)}")
    return RaggedTensor(values[mask.bool()], mask.long().sum(dim=1))


def pool(hidden: torch.Tensor, how: str, mask: torch.Tensor | None, special: torch.Tensor | None) -> torch.Tensor:
    """Pool hidden states `(batch, length, width)`, or images' `(batch, width, height, width)`, to `(batch, width)`.

    Args:
        hidden: the last hidden states.
        how: "mean", "max", "cls" (the first token), "last" (token), or "mean_tokens", the mean without special tokens.
        mask: `(batch, length)`, true where there is a token; None where there is one everywhere.
        special: `(batch, length)`, true where that token is a special one; for "mean_tokens".

    Raises:
        ModelError: the pooling needs hidden states per token, which these are not.
    """
    if hidden.ndim == 4 and how in ("mean", "max"):
        return hidden.mean(dim=(2, 3)) if how == "mean" else hidden.amax(dim=(2, 3))
    if hidden.ndim != 3:
        raise ModelError(f"pooling {how} is for one vector a token; hidden states are of shape {tuple(hidden.shape)}")
    if how == "cls":
        return hidden[:, 0]
    if mask is None or mask.shape != hidden.shape[:2]:
        if mask is not None and not bool(mask.all()):
            raise ModelError(
                f"hidden states of shape {tuple(hidden.shape)} are not one for each of the tokens, {tuple(mask.shape)}"
            )
        mask = hidden.new_ones(hidden.shape[:2])
    if how == "mean_tokens":
        assert special is not None
        mask = mask.bool() & ~special.bool()
    if how == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), mask.long().sum(dim=1) - 1]
    if how == "max":
        return hidden.masked_fill(~mask.bool()[..., None], float("-inf")).amax(dim=1)
    weights = mask[..., None].to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)
