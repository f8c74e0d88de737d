"""Tensors whose values are on another rank: results computed from them are also unknown, except for shape and dtype.

They are PyTorch's fake tensors. So a stage of a pipeline can run the complete forward of the model: operations on
unknown values cost no memory and hardly any time.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from runner.core.errors import ModelError

_PLAIN = (int, float, str, bool, tuple, type(None))
_OWN_NUMBER = "layer_idx"  # name of a layer's own index in Transformers


class _Unknowns(FakeTensorMode):  # type: ignore[no-untyped-call]
    """A mode that allows mixing known and unknown tensors, but not writing an unknown one into a known one."""

    def dispatch(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:  # called by FakeTensorMode for each operation
        if func._schema.is_mutable:
            pairs = zip(func._schema.arguments, args, strict=False)
            written = [value for argument, value in pairs if argument.alias_info and argument.alias_info.is_write]
            if any(isinstance(tensor, torch.Tensor) and not is_unknown(tensor) for tensor in written):
                raise ModelError(
                    f"the model copies values of another stage into a tensor of its own ({func}), and cannot be split "
                    "into stages there"
                )
        return super().dispatch(func, types, args, kwargs or {})


_mode = _Unknowns(allow_non_fake_inputs=True)


def is_unknown(value: Any) -> bool:
    """Return whether a value is a tensor whose values are on another rank."""
    return isinstance(value, FakeTensor)


def unknown_like(tensor: torch.Tensor, device: torch.device | None = None) -> torch.Tensor:
    """Return a tensor with the shape and dtype of another, on its device or `device`, without values."""
    meta = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    return FakeTensor(_mode, meta, device or tensor.device)


def hide_parameters(model: nn.Module, device: torch.device) -> None:
    """Replace parameters on the meta device by unknown tensors on `device`."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.is_meta:
                module._parameters[name] = nn.Parameter(unknown_like(parameter, device), requires_grad=False)


def kind_of(module: nn.Module) -> tuple[Any, ...]:
    """Return a key that is equal for layers that differ only in parameter values and their own index."""
    return tuple(
        (
            type(inner),
            *(
                (name, repr(value))
                for name, value in vars(inner).items()
                if isinstance(value, _PLAIN) and name != _OWN_NUMBER
            ),
            *(None if tensor is None else (name, tensor.shape) for name, tensor in inner._parameters.items()),
        )
        for inner in module.modules()
    )
