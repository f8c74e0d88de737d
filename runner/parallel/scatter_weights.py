"""Distribution of the parameters of a model that ranks hold together: rank 0 goes through the weights file, tensor by
tensor, and sends each place of the groups its part. No other rank reads the weights, and none ever holds them all.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
import xxhash
from torch import nn
from torch.distributed.tensor import DTensor

from runner.comm import Comm
from runner.comm.groups import Groups
from runner.comm.mpi import MpiComm
from runner.comm.pieces import as_bytes
from runner.core.errors import ModelError
from runner.parallel.tensor import split_dimension


def fill(
    comm: Comm,
    groups: Groups,
    model: nn.Module,
    tied: Mapping[str, str],
    weights: Mapping[str, torch.Tensor] | None,
    holds: Callable[[int, str], bool],
    device: torch.device,
) -> tuple[str, str]:
    """Give every parameter that this rank holds, and every buffer, its values; every rank calls this.

    Args:
        comm, groups: all ranks, and their partition into groups.
        model: the split model, its parameters on the meta device; those of other stages stay there.
        tied: names of tied parameters, each with the name of the one it is tied to.
        weights: complete tensors by name, on rank 0 alone.
        holds: whether a stage holds the parameter of that name.
        device: device of this rank.

    Returns:
        Digests (XXH3, 128 bits) of the complete weights, the same for any grouping, and of this rank's part.

    Raises:
        ModelError: the weights do not fit the model; on every rank alike.
    """
    assert isinstance(comm, MpiComm)
    columns = comm.columns(groups.size)
    state, own_state = xxhash.xxh3_128(), xxhash.xxh3_128()
    own_place = groups.place(comm.world.rank)
    own_stage = groups.stage(comm.world.rank)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    known_by = [_known_by([name for name in parameters if holds(s, name)], tied) for s in range(groups.stages)]
    split = {name: dim for name in known_by[own_stage] if (dim := split_dimension(parameters[name])) is not None}
    split_at = comm.gather_all(split if comm.world.rank < groups.size else {})
    filled: dict[str, nn.Parameter] = {}
    for name, parameter in parameters.items():
        full_tensor = None
        if weights is not None:
            full_tensor = weights[tied.get(name, name)].to(parameter.dtype)
            if name not in tied:
                state.update(name.encode())
                state.update(as_bytes(full_tensor.contiguous()).numpy())
        for place in range(groups.size):
            if known_by[groups.stage(place)].get(name) != name:
                continue
            piece = None if full_tensor is None else _piece(full_tensor, groups, place, split_at[place].get(name))
            if place == own_place:
                own = torch.empty(_local(parameter).shape, dtype=parameter.dtype)
                if piece is not None:
                    own.copy_(piece)
                columns.broadcast_(place, own)
                own_state.update(as_bytes(own).numpy())
                filled[name] = nn.Parameter(_like(own.to(device), parameter), requires_grad=False)
            elif piece is not None:
                columns.broadcast_(place, piece)
    for name, owner in known_by[own_stage].items():
        _put(model, name, filled[owner])
    _fill_buffers(comm, model, weights, own_state, device)
    columns.close()
    return comm.bcast(f"xxh3:{state.hexdigest()}"), f"xxh3:{own_state.hexdigest()}"


def _fill_buffers(
    comm: Comm,
    model: nn.Module,
    weights: Mapping[str, torch.Tensor] | None,
    own_state: xxhash.xxh3_128,
    device: torch.device,
) -> None:
    """Give every buffer the values that rank 0 has, and add them to the digest of what this rank holds."""
    for name, buffer in list(model.named_buffers()):
        local = _local(buffer)  # complete on each rank
        value = local if weights is None or name not in weights else weights[name].to(buffer.dtype)
        if value.is_meta and comm.world.rank == 0:
            raise ModelError(
                f"the values of buffer {name} are not known: the weights do not have it, nor does the model"
            )
        own = torch.empty(value.shape, dtype=value.dtype)  # contiguous: a buffer may be a view of less memory
        if not value.is_meta:
            own.copy_(value)
        comm.broadcast_([as_bytes(own)])
        own_state.update(as_bytes(own).numpy())
        owner, _, leaf = name.rpartition(".")
        model.get_submodule(owner)._buffers[leaf] = _like(own.to(device), buffer)


def _piece(full_tensor: torch.Tensor, groups: Groups, place: int, dim: int | None) -> torch.Tensor:
    """Return the part of a tensor for a place of a group, contiguous; `dim` None where each place has it complete."""
    return (
        full_tensor if dim is None else torch.chunk(full_tensor, groups.tensor_size, dim)[place % groups.tensor_size]
    ).contiguous()


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """Return what this rank holds of a tensor that may be distributed."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _known_by(held: Sequence[str], tied: Mapping[str, str]) -> dict[str, str]:
    """Return, for each parameter of a stage, its first name there; another stage may hold the first of tied ones."""
    first: dict[str, str] = {}
    return {name: first.setdefault(tied.get(name, name), name) for name in held}


def _like(local: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor with these local values, distributed like the given one."""
    if not isinstance(tensor, DTensor):
        return local
    shape = tensor.shape
    stride = tensor.stride()
    return DTensor.from_local(local, tensor.device_mesh, tensor.placements, run_check=False, shape=shape, stride=stride)


def _put(model: nn.Module, name: str, parameter: nn.Parameter) -> None:
    owner, _, leaf = name.rpartition(".")
    model.get_submodule(owner)._parameters[leaf] = parameter
