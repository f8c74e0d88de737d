"""Layers whose weights are loaded to the device for each call and released after it: Accelerate's dispatch.

Between calls Accelerate leaves a layer's parameters on the meta device. A module that computes with the weights of
another layer without calling it would use those: on the CPU, PyTorch multiplies with a matrix that has no values
without an error. So between calls a placeholder takes their place, which fetches the weights when it is used.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from accelerate import cpu_offload
from accelerate.hooks import ModelHook, add_hook_to_module
from torch import nn
from torch.utils._pytree import tree_map_only


def stream(model: nn.Module, weights: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Let each module that has parameters of its own fetch them when it is called.

    Args:
        model: the module; its buffers move to the device and stay there.
        weights: the parameters it computes with, by name; each is read at each call.
        device: device on which the module computes.
    """
    model.requires_grad_(False)
    cpu_offload(model, device, state_dict=weights)
    for prefix, module in model.named_modules():
        resting = {
            name: _resting(parameter, weights, f"{prefix}.{name}" if prefix else name, device)
            for name, parameter in module._parameters.items()
            if parameter is not None
        }
        if resting:
            add_hook_to_module(module, _Rest(resting), append=True)


class _Resting(torch.Tensor):
    """A parameter whose values are stored elsewhere; an operation on it fetches them all."""

    fetch: Callable[[], torch.Tensor]
    # like nn.Parameter's: modules check it before they choose a faster path
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def __new__(cls, data: torch.Tensor, requires_grad: bool = False) -> Any:
        """Return a plain parameter: Accelerate wraps fetched values in the class of the parameter they replace."""
        return nn.Parameter(data, requires_grad)

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        args, kwargs = tree_map_only(_Resting, lambda resting: resting.fetch(), (args, kwargs or {}))
        return function(*args, **kwargs)


def _resting(like: torch.Tensor, weights: Mapping[str, torch.Tensor], name: str, device: torch.device) -> Any:
    """Return a placeholder with the shape and dtype of a parameter on the meta device, as if it were on `device`."""
    resting = torch.Tensor._make_wrapper_subclass(
        _Resting, like.size(), strides=like.stride(), dtype=like.dtype, device=device
    )
    resting.fetch = lambda: weights[name].to(device)
    resting._is_param = True  # for isinstance(..., nn.Parameter)
    return resting


class _Rest(ModelHook):  # type: ignore[misc]
    """A hook that runs after Accelerate's own hook of a module, before and after each call."""

    def __init__(self, resting: dict[str, Any]) -> None:
        self._resting = resting

    def init_hook(self, module: nn.Module) -> nn.Module:
        module._parameters.update(self._resting)
        return module

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        _list_parameters(module)
        return args, kwargs

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        module._parameters.update(self._resting)
        _list_parameters(module)
        return output


def _list_parameters(module: nn.Module) -> None:
    """Refresh the list of parameters that recurrent layers compute with: it must hold their current ones."""
    if isinstance(module, nn.RNNBase):
        module._flat_weights = [module._parameters[name] for name in module._flat_weights_names]
