"""Models that keep a state between calls, and their method to reset it."""

from collections.abc import Callable
from typing import Any

from torch import nn

from runner.core.errors import UsageError

RESETS = ("reset_states", "reset_state", "reset")


def find_reset(model: Any, is_wanted: bool) -> tuple[str, Callable[[], Any] | None]:
    """Return the name of the model's method that resets its state, "" if it has none, and the method where wanted.

    Raises:
        UsageError: it is wanted, and the model has none.
    """
    while not isinstance(model, nn.Module) and callable(getattr(model, "model", None)):
        model = model.model  # a wrapper of the runner's around the user's module
    for name in RESETS:
        if callable(reset := getattr(model, name, None)):
            return name, reset if is_wanted else None
    if is_wanted:
        raise UsageError(f"--stateful reset: the model has none of the methods {', '.join(RESETS)}")
    return "", None
