"""Tensors and bytes in the form that MPI takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from runner.comm import wait

_PIECE_BYTES = 256 << 20  # of one broadcast: far below 2^31, the most elements one MPI call can count


def broadcast_pieces(mpi: Any, pieces: Sequence[torch.Tensor]) -> None:
    """Overwrite each tensor in place with that of rank 0 of a communicator."""
    for request in [mpi.Ibcast(part.numpy(), root=0) for part in parts_of(pieces)]:
        wait(request.Test)


def parts_of(pieces: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Split tensors, without a copy, into parts that one broadcast each can carry, in order."""
    return [part for piece in pieces for part in torch.split(piece, _PIECE_BYTES) if len(part)]


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """Return the memory of a contiguous tensor, 1-D uint8: any dtype travels as bytes."""
    return tensor.detach().reshape(-1).view(torch.uint8)


class PlaceCommunicators:
    """Communicators from rank 0 to the ranks at one place of their groups, which are `size` ranks one after another."""

    def __init__(self, mpi: Any, size: int) -> None:
        ranks = range(mpi.Get_size())
        self._columns = {}
        for place in range(size):
            members = [rank for rank in ranks if rank == 0 or rank % size == place]
            if mpi.Get_rank() in members:
                own = mpi.Get_group().Incl(members)
                self._columns[place] = mpi.Create_group(own, tag=place)

    def broadcast_(self, place: int, piece: torch.Tensor) -> None:
        """Overwrite a contiguous CPU tensor with rank 0's, on the ranks at a place; other ranks do nothing."""
        if place in self._columns and piece.numel():
            broadcast_pieces(self._columns[place], [as_bytes(piece)])

    def close(self) -> None:
        """Release the communicators; collective."""
        for column in self._columns.values():
            column.Free()


class Buffer:
    """Memory that is reused: fresh memory costs a page fault every 4 KiB."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def fill(self, parts: Sequence["bytes | memoryview"]) -> np.ndarray:
        """Return the parts, one after another, as 1-D uint8 that is valid until the next call."""
        size = sum(map(len, parts))
        if size > len(self._memory):
            self._memory = np.empty(size, np.uint8)
        position = 0
        for part in parts:
            self._memory[position : position + len(part)] = np.frombuffer(part, np.uint8)
            position += len(part)
        return self._memory[:size]
