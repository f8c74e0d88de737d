"""How a model is called: without gradients, or with them where it needs them itself, as forces by autograd do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

import torch

# of PyTorch's messages where something is differentiated that was computed without a graph
_AUTOGRAD = re.compile(r"requires?[_ ]grad|grad_fn|inference ?(tensor|mode)|differentiated tensors", re.IGNORECASE)


class Mode(Enum):
    """How PyTorch computes.

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
    """For as long as this lasts, PyTorch computes in this mode, in this thread."""
    with torch.inference_mode(mode is Mode.INFERENCE), torch.set_grad_enabled(mode is Mode.GRADIENTS):
        yield


def wants_gradients(error: BaseException | None) -> bool:
    """Whether an error, or what has caused it, is that of a model that was called without gradients and needs them."""
    while error is not None:
        if isinstance(error, RuntimeError) and _AUTOGRAD.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
