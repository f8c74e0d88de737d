"""Models that keep a state between calls, and their method to reset it."""

from collections.abc import Callable
from typing import Any

from torch import nn

RESETS = ("reset_states", "reset_state", "reset")


def find_reset(model: Any) -> tuple[str, Callable[[], Any] | None]:
    """Return the name of the model's method that resets its state, and the method; "" and None if it has none."""
    while not isinstance(model, nn.Module) and callable(getattr(model, "model", None)):
        model = model.model  # a wrapper of the runner's around the user's module
    for name in RESETS:
        if callable(reset := getattr(model, name, None)):
            return name, reset
    return "", None
