"""Backend of many ranks on mpi4py alone, and the base of the Horovod backend.

Every wait polls and sleeps: a blocking call spins on a core that a computing rank on the same host may need, and cannot
be interrupted from Python.
"""

import contextlib
import socket
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import torch

from runner.comm import Comm, Counter, Round, wait
from runner.comm.library import library_name, load_mpi
from runner.comm.pieces import Buffer, PlaceCommunicators, broadcast_pieces
from runner.config.collect_modes import COLLECT_MODES
from runner.core.errors import RunnerError, as_runner_error, render
from runner.core.messages import tell
from runner.host.launch import Launch, World

T = TypeVar("T")


class MpiComm(Comm):
    """The ranks of an MPI job.

    Args:
        launch: what the launcher said.
        collect: one of `COLLECT_MODES`, by which the pieces of a round go to rank 0 alone or to all ranks.
        some: a communicator of some of the ranks; None for all.
        name: of this rank, where it is not to be known by its number among those.
    """

    def __init__(self, launch: Launch, collect: str, some: Any = None, name: str = "") -> None:
        mpi = load_mpi(launch)
        self._library = mpi
        self.library = library_name(mpi)
        ranks = some or mpi.COMM_WORLD
        self._mpi = ranks.Dup()  # our own messages, apart from Horovod's
        self._ring = ranks.Dup()  # signs of life
        self._beat_sent: Any = None
        self._outgoing = Buffer()
        # between hosts, Intel MPI's Iallgatherv of pieces of unlike sizes never ends; and rank 0 alone needs them
        self._to_root_alone = COLLECT_MODES[collect].to_root_only or self.library.startswith("Intel")
        self._host = host = self._mpi.Split_type(mpi.COMM_TYPE_SHARED)
        self.world = World(
            rank=self._mpi.Get_rank(),
            world_size=self._mpi.Get_size(),
            local_rank=host.Get_rank(),
            local_size=host.Get_size(),
            host=socket.gethostname(),
            launcher=launch.launcher,
            name=name,
        )
        _abort_on_exception(self.world.who, mpi.COMM_WORLD)

    def bcast(self, value: T) -> T:
        self._barrier()
        received: T = self._mpi.bcast(value, root=0)
        return received

    def gather_all(self, value: T) -> list[T]:
        self._barrier()
        gathered: list[T] = self._mpi.allgather(value)
        return gathered

    def _broadcast(self, pieces: Sequence[torch.Tensor]) -> None:
        broadcast_pieces(self._mpi, pieces)

    def broadcast_to_hosts_(self, pieces: Sequence[torch.Tensor]) -> None:
        is_first = self.world.local_rank == 0
        firsts = self._mpi.Split(0 if is_first else self._library.UNDEFINED)
        if is_first:
            broadcast_pieces(firsts, pieces)
            firsts.Free()
        self._barrier()

    def bcast_on_host(self, value: T) -> T:
        self._barrier()
        received: T = self._host.bcast(value, root=0)
        return received

    def start_round(self, header: bytes, parts: Sequence[memoryview]) -> Round:
        size = sum(map(len, parts))
        return _MpiRound(self._mpi, size.to_bytes(8) + header, self._outgoing.fill(parts), self._to_root_alone)

    def counter(self) -> Counter:
        return _MpiCounter(self._library, self._mpi)

    def beat(self, state: str) -> list[str] | None:
        if self._beat_sent is None or self._beat_sent.Test():
            self._beat_sent = self._ring.isend(state, dest=(self.world.rank + 1) % self.world.world_size)
        return self._take_beats()

    def abort(self, error: RunnerError) -> None:
        time.sleep(0.2 * min(self.world.rank, 10))  # when all fail alike, one message is enough: the first ends the job
        error.who = self.world.who
        tell(render(error))
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        time.sleep(0.1)  # what the launcher has not read yet when the job is aborted may be lost
        self._library.COMM_WORLD.Abort(error.exit_code)

    def only(self, is_one_of_them: bool) -> Any:
        """Make a communicator of the ranks that pass True; every rank calls this. Returns None on the others."""
        some = self._mpi.Split(0 if is_one_of_them else self._library.UNDEFINED, self.world.rank)
        return some if is_one_of_them else None

    def columns(self, size: int) -> PlaceCommunicators:
        """Make the communicators from rank 0 to each place of groups of `size` ranks; collective."""
        return PlaceCommunicators(self._mpi, size)

    def close(self) -> None:
        self._barrier()  # the first rank to leave would end Horovod and MPI under the others
        self._take_beats()  # all have stopped to send: nothing is left on its way when MPI ends
        for communicator in (self._host, self._ring, self._mpi):
            communicator.Free()

    def _take_beats(self) -> list[str]:
        source = (self.world.rank - 1) % self.world.world_size
        beats = []
        while self._ring.iprobe(source=source):
            beats.append(self._ring.recv(source=source))
        return beats

    def _barrier(self) -> None:
        wait(self._mpi.Ibarrier().Test)


class _MpiRound(Round):
    """Exchange of the heads with all ranks, then of the pieces."""

    def __init__(self, mpi: Any, head: bytes, piece: np.ndarray, to_root_alone: bool) -> None:
        self._mpi = mpi
        self._piece = piece
        self._gets_pieces = not to_root_alone or mpi.Get_rank() == 0
        self._to_root_alone = to_root_alone
        self._own = np.frombuffer(head, np.uint8)
        self._heads = np.empty((mpi.Get_size(), len(self._own)), np.uint8)
        self._request = mpi.Iallgather(self._own, self._heads)
        self._sizes: list[int] | None = None
        self._pieces = np.empty(0, np.uint8)

    def done(self) -> bool:
        if not self._request.Test():
            return False
        if self._sizes is not None:
            return True
        self._sizes = [int.from_bytes(head[:8].tobytes()) for head in self._heads]
        if not any(self._sizes):
            return True
        if self._gets_pieces:
            self._pieces = np.empty(sum(self._sizes), np.uint8)
        received = [self._pieces, self._sizes] if self._gets_pieces else None
        if self._to_root_alone:
            self._request = self._mpi.Igatherv(self._piece, received, root=0)
        else:
            self._request = self._mpi.Iallgatherv(self._piece, received)
        return bool(self._request.Test())

    def result(self) -> list[tuple[bytes, np.ndarray]]:
        assert self._sizes is not None
        gathered = []
        position = 0
        for head, size in zip(self._heads, self._sizes, strict=True):
            gathered.append((head[8:].tobytes(), self._pieces[position : position + size]))
            position += size
        return gathered


class _MpiCounter(Counter):
    """A number in rank 0's memory, reached by one-sided operations: no rank has to serve it."""

    def __init__(self, library: Any, mpi: Any) -> None:
        self._library = library
        self._window = library.Win.Allocate(8 if mpi.Get_rank() == 0 else 0, disp_unit=8, comm=mpi)
        if mpi.Get_rank() == 0:
            self._window.Lock(0)
            np.frombuffer(self._window.tomemory(), np.int64)[0] = 0
            self._window.Unlock(0)
        wait(mpi.Ibarrier().Test)  # none may count, or hold a lock that rank 0 would wait for, before it is 0
        self._window.Lock_all()

    def next(self) -> int:
        one = np.ones(1, np.int64)
        before = np.empty(1, np.int64)
        self._window.Fetch_and_op(one, before, 0, op=self._library.SUM)
        self._window.Flush(0)
        return int(before[0])

    def close(self) -> None:
        self._window.Unlock_all()
        self._window.Free()


def _abort_on_exception(who: str, mpi_comm: Any) -> None:
    """Make an exception that ends this process end the job: other ranks would wait for this one forever.

    The hook stays for the life of the process, because the script that called the runner may fail between two jobs.
    """
    former_hook = sys.excepthook
    if getattr(former_hook, "ends_the_job", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        with contextlib.suppress(Exception):
            former_hook(kind, error, trace)
        tell(f"runner: error [{who}]: an exception ended this rank, and with it the job")
        mpi_comm.Abort(as_runner_error(error).exit_code)

    hook.ends_the_job = True  # type: ignore[attr-defined]
    sys.excepthook = hook
