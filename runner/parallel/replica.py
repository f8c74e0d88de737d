"""A model that the ranks of a group call together, as their leader sees it."""

from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from runner.data.tensors import map_tensors
from runner.parallel.group_timer import Exchange


class Replica:
    """Can be called with a batch as the whole model could.

    Args:
        model: this rank's part.
        say: tells the members what the model is called with.
        check: after the model has failed, tells whether the members are still there and have failed as well.
        device: of this rank.
        exchange: counts how long all that takes.
    """

    can_have_gradients = False

    def __init__(
        self,
        model: Callable[..., Any],
        say: Callable[[tuple[Any, ...], dict[str, Any]], None],
        check: Callable[[Exception], None],
        device: torch.device,
        exchange: Exchange,
    ) -> None:
        self.model, self._say, self._check, self._device, self._exchange = model, say, check, device, exchange
        for name in ("tokenize_texts", "count_tokens", "prepare_images"):
            if hasattr(model, name):
                setattr(self, name, getattr(model, name))

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        try:
            with self._exchange.waiting():
                self._say(inputs, named)
            return call_part(self.model, inputs, named, self._device, self._exchange)
        except Exception as error:
            self._check(error)
            raise


def call_part(
    model: Callable[..., Any],
    inputs: tuple[Any, ...],
    named: dict[str, Any],
    device: torch.device,
    exchange: Exchange,
) -> Any:
    """What a part of the model gives with the others of its group, whole."""
    # In inference mode, distributed tensors do not take a linear layer with a bias apart: its weights, and not what it
    # gives, were brought together for each batch.
    with torch.inference_mode(False), torch.no_grad():
        inputs, named = map_tensors((inputs, named), lambda tensor: _usable(tensor.to(device)))
        return exchange.call(lambda: map_tensors(model(*inputs, **named), _whole))


def _usable(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that may be written to outside of inference mode."""
    return tensor.clone() if tensor.is_inference() else tensor


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    whole: torch.Tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole
