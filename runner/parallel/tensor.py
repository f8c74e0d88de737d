"""Tensor parallelism: the weights of single layers are split over the ranks of a group (Shoeybi et al., "Megatron-LM",
2019), by PyTorch's `parallelize_module`.

Every rank builds the model without memory for its parameters, and its plan says which are split and how; then they are
filled (`scatter_weights.py`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.parallel import parallelize_module

from runner.core.errors import ModelError, describe


def split_module(
    model: nn.Module, plan: Mapping[str, Any], mesh: DeviceMesh, is_held: Callable[[str], bool]
) -> nn.Module:
    """Return the module with the parameters that the plan names split over the mesh; they may be on the meta device.

    Args:
        model: the module.
        plan: styles of `torch.distributed.tensor.parallel` by module name; `*` matches any part of a name.
        mesh: the ranks over which they are split.
        is_held: whether these ranks hold the parameters of the submodule of that name.

    Raises:
        ModelError: the plan does not fit the module.
    """
    names = [name for name, _ in model.named_modules()]
    for pattern in plan:
        if not any(_matches(pattern, name) for name in names):
            some = ", ".join(name for name in names[1:6])
            raise ModelError(f"the parallel plan names {pattern!r}, which the model does not have; it has {some}, ...")
    own = {name: style for name in names if is_held(name) for pattern, style in plan.items() if _matches(pattern, name)}
    try:
        split = parallelize_module(model, mesh, own)
    except Exception as error:
        raise ModelError(f"the model cannot be split by this plan: {describe(error)}") from error
    for name, parameter in split.named_parameters():
        dim = split_dimension(parameter)
        if dim is not None and parameter.shape[dim] % mesh.size():
            raise ModelError(
                f"the plan splits the {parameter.shape[dim]} of {name} {tuple(parameter.shape)}, which {mesh.size()} "
                "ranks do not divide"
            )
    return split


def split_dimension(parameter: torch.Tensor) -> int | None:
    """Return the dimension along which a parameter is split over the ranks of a stage; None where it is not split."""
    placement = parameter.placements[0] if isinstance(parameter, DTensor) else None
    return placement.dim if isinstance(placement, Shard) else None


def _matches(pattern: str, name: str) -> bool:
    wanted, parts = pattern.split("."), name.split(".")
    return len(wanted) == len(parts) and all(w in ("*", f) for w, f in zip(wanted, parts, strict=True))
