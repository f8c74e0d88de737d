"""Weights that the ranks of a host hold together, once.

The first rank of each host receives them into a file in memory, and every rank of the host maps it: privately, so that
a model that writes to its own weights changes a copy of that page for itself alone. Nothing of it has a name in a file
system: it takes no room in /dev/shm, as an MPI window does, and is gone with the ranks however they end.
"""

import mmap
import os

import torch
from torch import nn

from runner.comm import Comm
from runner.errors import RunnerError
from runner.models.files import MemoryFile
from runner.models.storages import named_tensors, storages

_ALIGNMENT = 4096  # bytes; whole pages, so that a write to one storage copies nothing of another


def share_storages(comm: Comm, model: nn.Module) -> None:
    """Overwrite every storage of a CPU module with rank 0's, in memory that all ranks of a host share.

    Args:
        comm: the ranks; on each the module is of the same layout.
        model: its tensors are pointed to that memory, and what they lay in is freed as it goes.

    Raises:
        RunnerError: on every rank alike: the ranks of a host cannot reach each other's memory.
    """
    sizes = [len(raw) for _, raw in storages(model)]
    starts, size = [], 0
    for length in sizes:
        starts.append(size)
        size += -(-length // _ALIGNMENT) * _ALIGNMENT
    places = list(zip(starts, sizes, strict=True))
    is_first = comm.world.local_rank == 0
    file = comm.on_each(lambda: MemoryFile(size) if is_first else None)
    if file:
        _move(model, file.raw, places, keep=comm.world.rank == 0)
    comm.broadcast_to_hosts_([file.raw] if file else [])
    path = comm.bcast_on_host(f"/proc/{os.getpid()}/fd/{file.fileno}" if file else "")
    _move(model, comm.on_each(lambda: _map(path, size)), places, keep=False)
    if file:
        file.close()


def _map(path: str, size: int) -> torch.Tensor:
    """The file's bytes; what is written to them stays in this process."""
    if not size:
        return torch.empty(0, dtype=torch.uint8)
    try:
        with open(path, "rb") as file:
            return torch.frombuffer(mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE), dtype=torch.uint8)
    except OSError as error:
        raise RunnerError(
            f"--share-weights: this rank cannot map the memory of the first rank of its host: {error.strerror}. The "
            "ranks of a host must be of one user and one container"
        ) from error


def _move(model: nn.Module, memory: torch.Tensor, places: list[tuple[int, int]], keep: bool) -> None:
    """Point the tensors of a module to other memory, one storage after another.

    Args:
        model: the module.
        memory: bytes.
        places: where in it each storage is to be, and its size.
        keep: copy its contents there, too.
    """
    within: dict[int, list[torch.Tensor]] = {}
    for _, tensor in named_tensors(model):
        within.setdefault(tensor.untyped_storage().data_ptr(), []).append(tensor)
    olds = [raw for _, raw in reversed(storages(model))]
    for start, size in places:
        old = olds.pop()
        new = torch.frombuffer(memory.numpy(), dtype=torch.uint8, count=size, offset=start)  # a storage of its own
        if keep:
            new.copy_(old)
        for tensor in within.pop(old.data_ptr()):
            moved = torch.empty(0, dtype=tensor.dtype)
            moved.set_(new.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())
            tensor.data = moved
