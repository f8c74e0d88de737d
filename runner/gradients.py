"""How a model is called: without gradients, or with them where it needs them itself, as forces by autograd do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# of PyTorch's messages where something is differentiated that was computed without a graph
_AUTOGRAD = re.compile(r"requires?[_ ]grad|grad_fn|inference ?(tensor|mode)|differentiated tensors", re.IGNORECASE)


@contextmanager
def calling(with_gradients: bool) -> Iterator[None]:
    """For as long as this lasts, tensors are computed in inference mode, or such that they can be differentiated."""
    if with_gradients:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    else:
        with torch.inference_mode():
            yield


def wants_gradients(error: BaseException | None) -> bool:
    """Whether an error, or what has caused it, is that of a model that was called without gradients and needs them."""
    while error is not None:
        if isinstance(error, RuntimeError) and _AUTOGRAD.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
