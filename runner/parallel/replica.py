"""A model that the ranks of a group call together, seen from their leader."""

from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from runner.data.tensors import map_tensors
from runner.parallel.group_timer import GroupTimer

# attributes of a model that the leader's engine asks for
_OF_THE_MODEL = (
    *("tokenize_texts", "count_tokens", "prepare_images", "requests", "truncate", "wants_row_numbers"),
    "take_counts",
)


class Replica:
    """A callable that takes a batch like the complete model would.

    Args:
        model: this rank's part.
        send: sends the model's inputs to the members.
        check: called with the exception of a failed call; finds out whether the members failed as well.
        device: device of this rank.
        group_timer: measures the time of the exchange with the group.
    """

    can_have_gradients = False

    def __init__(
        self,
        model: Callable[..., Any],
        send: Callable[[tuple[Any, ...], dict[str, Any]], None],
        check: Callable[[Exception], None],
        device: torch.device,
        group_timer: GroupTimer,
    ) -> None:
        self.model = model
        self._send = send
        self._check = check
        self._device = device
        self._group_timer = group_timer
        for name in _OF_THE_MODEL:
            if hasattr(model, name):
                setattr(self, name, getattr(model, name))

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        try:
            with self._group_timer.waiting():
                self._send(inputs, named)
            return call_part(self.model, inputs, named, self._device, self._group_timer)
        except Exception as error:
            self._check(error)
            raise


def call_part(
    model: Callable[..., Any],
    inputs: tuple[Any, ...],
    named: dict[str, Any],
    device: torch.device,
    group_timer: GroupTimer,
) -> Any:
    """Return the complete output of a part of the model, called together with the other parts of its group."""
    # In inference mode, distributed tensors do not decompose a linear layer with a bias: its weights, instead of its
    # outputs, would be gathered for each batch.
    with torch.inference_mode(False), torch.no_grad():
        inputs, named = map_tensors((inputs, named), lambda tensor: _usable(tensor.to(device)))
        return group_timer.call(lambda: map_tensors(model(*inputs, **named), _whole))


def _usable(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor that may be written to outside of inference mode."""
    return tensor.clone() if tensor.is_inference() else tensor


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    whole: torch.Tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole
