"""Selection of the prediction among the outputs of a Transformers image model."""

from collections.abc import Mapping
from typing import Any

import torch

from runner.core.errors import ModelError


def pick_output(outputs: Mapping[str, Any], pooling: str | None) -> Any:
    """Pick the prediction from the outputs of an image model.

    Args:
        outputs: the outputs by name, as Transformers returns them.
        pooling: for a model without a head: mean, max, cls or last; None for the model's own.

    Returns:
        For a model with a head, its logits, together with boxes and masks where it detects objects. For a model without
        one, a vector per row: its embedding, else the output of its pooling layer, else the mean of the last hidden
        states. Outputs with none of these are returned unchanged.

    Raises:
        ModelError: the pooling is unknown, or is cls or last for hidden states `(batch, channels, height, width)`.
    """
    head = {name: value for name, value in outputs.items() if name == "logits" or name.startswith("pred_")}
    if head:
        return head["logits"] if list(head) == ["logits"] else head
    if pooling is None:
        for name in ("image_embeds", "pooler_output"):
            if (pooled := outputs.get(name)) is not None:
                return pooled.flatten(1)
    hidden = outputs.get("last_hidden_state")
    return outputs if hidden is None else _pool(hidden, pooling or "mean")


def _pool(hidden: torch.Tensor, pooling: str) -> torch.Tensor:
    places = (2, 3) if hidden.ndim == 4 else (1,)
    if pooling == "mean":
        return hidden.mean(dim=places)
    if pooling == "max":
        return hidden.amax(dim=places)
    if pooling not in ("cls", "last") or hidden.ndim == 4:
        raise ModelError(f"pooling {pooling} does not apply to hidden states of shape {tuple(hidden.shape)}")
    return hidden[:, 0 if pooling == "cls" else -1]
