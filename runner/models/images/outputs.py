"""What a model of images is run for, of all that Transformers gives for a batch."""

from collections.abc import Mapping
from typing import Any

import torch

from runner.core.errors import ModelError


def pick_output(outputs: Mapping[str, Any], pooling: str | None) -> Any:
    """Pick the answer of a model of images.

    Args:
        outputs: by name, as Transformers gives them.
        pooling: of a model without a head: mean, max, cls or last; None for the model's own.

    Returns:
        Of a model with a head its logits, with boxes and masks beside them where it finds objects. Of one without, a
        vector a row: its embedding, else what its own pooling layer gives, else the mean of the last hidden states.
        What has none of these, as it is.

    Raises:
        ModelError: there is no such pooling; cls or last of hidden states `(batch, channels, height, width)`.
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
