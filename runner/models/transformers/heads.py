"""What comes out of a model of Transformers: the outputs of its head, or its hidden states pooled to a vector a row."""

import re
from collections.abc import Mapping
from typing import Any

import torch

from runner.core.errors import ModelError
from runner.data.tensors import RaggedTensor

# outputs that hold something for each token (or frame), by the class that gives them
_PER_TOKEN = {
    r"For(TokenClassification|MaskedLM|CTC|AudioFrameClassification)$|LMHeadModel$": ("logits",),
    r"ForQuestionAnswering$": ("start_logits", "end_logits"),
    r"ForPreTraining$": ("logits", "prediction_logits"),
}
# what a model keeps for training, for its next call or for a closer look; what compares the rows of a batch
_INNER = re.compile(r"hidden_states?$|attentions$|past_key_values|^cache|states?$|^mems$|loss$|^logits_per_")
_HIDDEN, _POOLED = "last_hidden_state", "pooler_output"
_HEAD = re.compile(r"For[A-Z]|LMHead|WithProjection|DoubleHeads|MTModel")


def has_head(class_name: str) -> bool:
    """Whether a class of Transformers gives something else than hidden states, by its name."""
    return bool(_HEAD.search(class_name))


def pick(outputs: Any, class_name: str, mask: torch.Tensor | None) -> Any:
    """The outputs of a model's head: one, or several by name; None where it has none.

    Args:
        outputs: what the model gives.
        class_name: of the model, by which it is known what is given for each token.
        mask: `(batch, length)`, true where there is a token; None where all rows came with one length.

    Returns:
        Tensors with a row each; what is given for each token as `RaggedTensor`, where there is a mask.

    Raises:
        ModelError: an output has not one item for each token, where it should.
    """
    if not isinstance(outputs, Mapping):
        return outputs
    if not has_head(class_name) and _HIDDEN in outputs and "logits" not in outputs:
        return None
    per_token = next((names for pattern, names in _PER_TOKEN.items() if re.search(pattern, class_name)), ())
    found = {
        name: of_tokens(value, mask, f"{class_name} gives {name}") if name in per_token and mask is not None else value
        for name, value in outputs.items()
        if isinstance(value, torch.Tensor) and value.ndim and name != _POOLED and not _INNER.search(name)
    }
    if not found and not isinstance(outputs.get(_HIDDEN), torch.Tensor):
        if isinstance(outputs.get(_POOLED), torch.Tensor):
            return outputs[_POOLED]
        raise ModelError(f"{class_name} gives {', '.join(outputs)}, and nothing of that is a prediction")
    return None if not found else found if len(found) > 1 else next(iter(found.values()))


def of_tokens(values: torch.Tensor, mask: torch.Tensor, what: str) -> RaggedTensor:
    """`(batch, length, ...)` without what stands for padding: for each row `(its length, ...)`."""
    if bool(mask.all()):  # so that each is as long as any, in whatever unit: frames are fewer than samples
        lengths = torch.full((len(values),), values.shape[1], device=values.device)
        return RaggedTensor(values.flatten(0, 1), lengths)
    if values.shape[:2] != mask.shape:
        raise ModelError(f"{what} of shape {tuple(values.shape)} for tokens of shape {tuple(mask.shape)}")
    return RaggedTensor(values[mask.bool()], mask.long().sum(dim=1))


def pool(hidden: torch.Tensor, how: str, mask: torch.Tensor | None, special: torch.Tensor | None) -> torch.Tensor:
    """Hidden states `(batch, length, width)`, or of images `(batch, width, height, width)`, to `(batch, width)`.

    Args:
        hidden: the last ones.
        how: "mean", "max", "cls" (the first token), "last" (token), or "mean_tokens", without special ones.
        mask: `(batch, length)`, true where there is a token; None where there is one everywhere.
        special: `(batch, length)`, true where that token is a special one; for "mean_tokens".

    Raises:
        ModelError: hidden states of images have no tokens.
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
