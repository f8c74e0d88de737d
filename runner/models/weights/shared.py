"""Weights shared by the ranks of a host, which hold them in memory once.

The first rank of each host receives them into a file in memory, and every rank of the host maps it. The map is private:
a rank whose model writes to its own weights gets its own copy of that page. The file has no name in a file system: it
takes no space in /dev/shm, unlike an MPI window, and disappears with the ranks however they end.
"""

import mmap
import os
from collections.abc import Sequence

import torch

from runner.comm import Comm
from runner.core.errors import RunnerError
from runner.models.weights.files import MemoryFile

_ALIGNMENT = 4096  # bytes, a page: a write to one storage then copies nothing of another


def share(comm: Comm, sizes: Sequence[int], raws: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Give every rank rank 0's storages, in memory that all ranks of a host share.

    Args:
        comm: the ranks; each calls this.
        sizes: sizes of the storages, in bytes.
        raws: the storages, on rank 0; 1-D uint8.

    Returns:
        The storages, 1-D uint8.

    Raises:
        RunnerError: the ranks of a host cannot access each other's memory; on every rank alike.
    """
    starts = []
    size = 0
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
    """Return the file's bytes, mapped privately: writes to them stay in this process."""
    if not size:
        return torch.empty(0, dtype=torch.uint8)
    try:
        with open(path, "rb") as file:
            return torch.frombuffer(mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE), dtype=torch.uint8)
    except OSError as error:
        raise RunnerError(
            f"--share-weights: this rank cannot map the memory of the first rank of its host: {error.strerror}. The "
            "ranks of a host must belong to one user and one container"
        ) from error


def _part(memory: torch.Tensor, start: int, size: int) -> torch.Tensor:
    """Return some of the bytes, as a separate storage."""
    if not size:
        return torch.empty(0, dtype=torch.uint8)
    return torch.frombuffer(memory.numpy(), dtype=torch.uint8, count=size, offset=start)
