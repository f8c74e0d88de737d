"""Models that keep a state between calls, and the method by which they forget it."""

from collections.abc import Callable
from typing import Any

from torch import nn

RESETS = ("reset_states", "reset_state", "reset")


def find_reset(model: Any) -> tuple[str, Callable[[], Any] | None]:
    """Return the name of the model's method that resets its state, and the method; "" and None where it has none."""
    while not isinstance(model, nn.Module) and callable(getattr(model, "model", None)):
        model = model.model  # what is called with batches in some way of ours
    for name in RESETS:
        if callable(reset := getattr(model, name, None)):
            return name, reset
    return "", None
