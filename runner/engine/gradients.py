"""Modes of calling a model: without gradients, or with them where the model needs them, as forces by autograd do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

import torch

# matches PyTorch's messages when something computed without a graph is differentiated
_AUTOGRAD = re.compile(r"requires?[_ ]grad|grad_fn|inference ?(tensor|mode)|differentiated tensors", re.IGNORECASE)


class Mode(Enum):
    """Mode in which PyTorch computes.

    Attributes:
        INFERENCE: in inference mode, the fastest; no tensor can be differentiated later.
        NO_GRADIENTS: without gradients, but tensors that a model keeps from one call can be differentiated in another.
        GRADIENTS: with gradients.
    """

    INFERENCE = "inference mode"
    NO_GRADIENTS = "no gradients"
    GRADIENTS = "gradients"


@contextmanager
def computing_in(mode: Mode) -> Iterator[None]:
    """Let PyTorch compute in this mode, in this thread, inside the `with` block."""
    with torch.inference_mode(mode is Mode.INFERENCE), torch.set_grad_enabled(mode is Mode.GRADIENTS):
        yield


def wants_gradients(error: BaseException | None) -> bool:
    """Return whether an error, or its cause, comes from a model that was called without gradients and needs them."""
    while error is not None:
        if isinstance(error, RuntimeError) and _AUTOGRAD.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
