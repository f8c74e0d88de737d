"""Weights that the ranks of a host hold together, once.

The first rank of each host receives them into a file in memory, and every rank of the host maps it: privately, so that
a model that writes to its own weights changes a copy of that page for itself alone. Nothing of it has a name in a file
system: it takes no room in /dev/shm, as an MPI window does, and is gone with the ranks however they end.
"""

import mmap
import os
from collections.abc import Sequence

import torch

from runner.comm import Comm
from runner.core.errors import RunnerError
from runner.models.weights.files import MemoryFile

_ALIGNMENT = 4096  # bytes; whole pages, so that a write to one storage copies nothing of another


def share(comm: Comm, sizes: Sequence[int], raws: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Give every rank rank 0's storages, in memory that all ranks of a host share.

    Args:
        comm: the ranks; every one calls it.
        sizes: of the storages, in bytes.
        raws: the storages, on rank 0; 1-D uint8.

    Returns:
        The storages; likewise.

    Raises:
        RunnerError: on every rank alike: the ranks of a host cannot reach each other's memory.
    """
    starts, size = [], 0
    for length in sizes:
        starts.append(size)
        size += -(-length // _ALIGNMENT) * _ALIGNMENT
    is_first = comm.world.local_rank == 0
    file = comm.on_each(lambda: MemoryFile(size) if is_first else None)
    if file:
        for start, raw in zip(starts, raws, strict=False):
            file.raw[start : start + len(raw)].copy_(raw)
    comm.broadcast_to_hosts_([file.raw] if file else [])
    path = comm.bcast_on_host(f"/proc/{os.getpid()}/fd/{file.fileno}" if file else "")
    memory = comm.on_each(lambda: _map(path, size))
    if file:
        file.close()
    return [_part(memory, start, length) for start, length in zip(starts, sizes, strict=True)]


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


def _part(memory: torch.Tensor, start: int, size: int) -> torch.Tensor:
    """Some of the bytes, as a storage of their own."""
    if not size:
        return torch.empty(0, dtype=torch.uint8)
    return torch.frombuffer(memory.numpy(), dtype=torch.uint8, count=size, offset=start)
