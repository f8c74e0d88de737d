"""Tensor parallelism: the weights of single layers are split over the ranks of a group (Shoeybi et al., "Megatron-LM",
2019), by PyTorch's `parallelize_module`. No rank but rank 0 reads the weights, and none ever holds them all.

Every rank builds the model without memory for its parameters, and its plan says which are split and how. Rank 0 then
goes through the weights file, tensor by tensor, and sends each place of the groups its piece.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import xxhash
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.parallel import parallelize_module

from runner.comm import Comm
from runner.comm.mpi import MpiComm
from runner.errors import ModelError, describe
from runner.groups import Groups


def split_module(model: nn.Module, plan: Mapping[str, Any], mesh: DeviceMesh) -> nn.Module:
    """The module with the parameters that the plan names split over the mesh; they may be on the meta device.

    Raises:
        ModelError: the plan does not fit the module.
    """
    names = [name for name, _ in model.named_modules()]
    for pattern in plan:
        if not any(_matches(pattern, name) for name in names):
            some = ", ".join(name for name in names[1:6])
            raise ModelError(f"the parallel plan names {pattern!r}, which the model does not have; it has {some}, ...")
    try:
        split = parallelize_module(model, mesh, dict(plan))
    except Exception as error:
        raise ModelError(f"the model cannot be split by this plan: {describe(error)}") from error
    for name, parameter in split.named_parameters():
        placement = _placement(parameter)
        if isinstance(placement, Shard) and parameter.shape[placement.dim] % mesh.size():
            raise ModelError(
                f"--model-parallel {mesh.size()} does not divide the {parameter.shape[placement.dim]} of {name} "
                f"{tuple(parameter.shape)} that the plan splits"
            )
    return split


def fill(
    comm: Comm, groups: Groups, model: nn.Module, tied: Mapping[str, str], weights: Mapping[str, torch.Tensor] | None
) -> tuple[str, str]:
    """Give every parameter and buffer its values; every rank calls it.

    Args:
        comm: all ranks.
        groups: how they are grouped.
        model: split, its parameters on the meta device.
        tied: names of parameters that are another's, and whose.
        weights: whole tensors by name, on rank 0 alone.

    Returns:
        Digests (XXH3, 128 bits) of the whole weights, the same for any size of the groups, and of this rank's part.

    Raises:
        ModelError: the weights do not fit the model; on every rank alike.
    """
    assert isinstance(comm, MpiComm)
    columns = comm.columns(groups.size)
    state, own_state = xxhash.xxh3_128(), xxhash.xxh3_128()
    filled: dict[str, nn.Parameter] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in tied:
            continue
        whole = None
        if weights is not None:
            whole = weights[name].to(parameter.dtype)
            state.update(name.encode())
            state.update(_as_bytes(whole.contiguous()).numpy())
        local = parameter.to_local() if isinstance(parameter, DTensor) else parameter
        own = torch.empty(local.shape, dtype=local.dtype)
        for place in range(groups.size):
            piece = own
            if whole is not None:
                piece = _piece(whole, parameter, place, groups.size)
                if place == 0:
                    own.copy_(piece)
            columns.broadcast_(place, piece)
        own_state.update(_as_bytes(own).numpy())
        filled[name] = _like(own, parameter)
    for name in list(filled):
        _put(model, name, filled[name])
    for name, owner in tied.items():
        _put(model, name, filled[owner])
    for name, buffer in list(model.named_buffers()):
        given = buffer if weights is None or name not in weights else weights[name].to(buffer.dtype)
        own = given.clone(memory_format=torch.contiguous_format)  # a buffer may be a view of fewer numbers
        comm.broadcast_([_as_bytes(own)])
        own_state.update(_as_bytes(own).numpy())
        owner, _, leaf = name.rpartition(".")
        model.get_submodule(owner)._buffers[leaf] = own
    columns.close()
    return comm.bcast(f"xxh3:{state.hexdigest()}"), f"xxh3:{own_state.hexdigest()}"


def _as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """The memory of a contiguous tensor."""
    return tensor.detach().reshape(-1).view(torch.uint8)


def _piece(whole: torch.Tensor, parameter: torch.Tensor, place: int, size: int) -> torch.Tensor:
    """What the rank at a place of its group holds of a tensor; contiguous."""
    placement = _placement(parameter)
    piece = torch.chunk(whole, size, placement.dim)[place] if isinstance(placement, Shard) else whole
    return piece.contiguous()


def _placement(parameter: torch.Tensor) -> Any:
    """How a parameter lies on the ranks of its group; None where each has it whole."""
    return parameter.placements[0] if isinstance(parameter, DTensor) else None


def _like(local: torch.Tensor, parameter: torch.Tensor) -> nn.Parameter:
    """A parameter with these values, split as the given one is."""
    if isinstance(parameter, DTensor):
        shape, stride = parameter.shape, parameter.stride()
        whole = DTensor.from_local(
            local, parameter.device_mesh, parameter.placements, run_check=False, shape=shape, stride=stride
        )
        return nn.Parameter(whole, requires_grad=False)
    return nn.Parameter(local, requires_grad=False)


def _put(model: nn.Module, name: str, parameter: nn.Parameter) -> None:
    owner, _, leaf = name.rpartition(".")
    model.get_submodule(owner)._parameters[leaf] = parameter


def _matches(pattern: str, name: str) -> bool:
    wanted, found = pattern.split("."), name.split(".")
    return len(wanted) == len(found) and all(w in ("*", f) for w, f in zip(wanted, found, strict=True))


def tied_parameters(model: nn.Module) -> dict[str, str]:
    """Names of parameters that are also another's, by which they are known."""
    first: dict[int, str] = {}
    tied = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owner = first.setdefault(id(parameter), name)
        if owner != name:
            tied[name] = owner
    return tied


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Modules that are made inside keep no memory for their parameters; buffers are as they are made."""
    original: Callable[..., None] = nn.Module.register_parameter

    def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        original(module, name, parameter)
        if parameter is not None and not parameter.is_meta:
            module._parameters[name] = nn.Parameter(parameter.to("meta"), requires_grad=False)

    nn.Module.register_parameter = register  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = original  # type: ignore[method-assign]
