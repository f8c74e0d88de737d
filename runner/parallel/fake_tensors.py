"""Tensors whose values are on another rank: what is computed from them is unknown, too, but for shape and dtype.

They are PyTorch's fake tensors. So a stage of a pipeline can run the whole forward of the model: what depends on layers
that it does not hold costs no memory and hardly any time.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from runner.core.errors import ModelError

_PLAIN = (int, float, str, bool, tuple, type(None))
_OWN_NUMBER = "layer_idx"  # what layers of Transformers call it


class _Unknowns(FakeTensorMode):  # type: ignore[no-untyped-call]
    """Lets known and unknown tensors be mixed, but not an unknown one be written into a known one."""

    def dispatch(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:  # what FakeTensorMode calls for each operation
        if func._schema.is_mutable:
            given = zip(func._schema.arguments, args, strict=False)
            written = [value for argument, value in given if argument.alias_info and argument.alias_info.is_write]
            if any(isinstance(tensor, torch.Tensor) and not is_unknown(tensor) for tensor in written):
                raise ModelError(
                    f"the model writes what another stage computes into a tensor of its own ({func}), which cannot be "
                    "cut into stages there"
                )
        return super().dispatch(func, types, args, kwargs or {})


_mode = _Unknowns(allow_non_fake_inputs=True)


def is_unknown(value: Any) -> bool:
    """Whether it is a tensor whose values are on another rank."""
    return isinstance(value, FakeTensor)


def unknown_like(tensor: torch.Tensor, device: torch.device | None = None) -> torch.Tensor:
    """A tensor of that shape, dtype and device, without values."""
    meta = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    return FakeTensor(_mode, meta, device or tensor.device)


def hide_parameters(model: nn.Module, device: torch.device) -> None:
    """Let the parameters that are on the meta device be unknown ones of `device`."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.is_meta:
                module._parameters[name] = nn.Parameter(unknown_like(parameter, device), requires_grad=False)


def kind_of(module: nn.Module) -> tuple[Any, ...]:
    """The same for two layers that differ in nothing but the values of their parameters, and their number."""
    return tuple(
        (
            type(inner),
            *(
                (name, repr(value))
                for name, value in vars(inner).items()
                if isinstance(value, _PLAIN) and name != _OWN_NUMBER
            ),
            *(None if found is None else (name, found.shape) for name, found in inner._parameters.items()),
        )
        for inner in module.modules()
    )
