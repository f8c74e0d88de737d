"""Communication between ranks: the interface for the rest of the runner, and the choice of its backend.

The backends are one rank (`single.py`), Horovod over MPI (`horovod.py`) and MPI alone (`mpi.py`), with one interface.
Every method except `abort` and `beat` is collective: every rank calls it, in the same order.
"""

import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

from runner.core.errors import RunnerError, UsageError, as_runner_error, describe
from runner.host.launch import Launch, World

if TYPE_CHECKING:
    import numpy as np
    import torch

T = TypeVar("T")


class Round(ABC):
    """An exchange in progress."""

    @abstractmethod
    def done(self) -> bool:
        """Return whether the exchange is complete; also advances it."""

    @abstractmethod
    def result(self) -> list[tuple[bytes, "np.ndarray"]]:
        """Return, by rank, once it is done: the header, and on rank 0 the piece (on others perhaps an empty one)."""


class Counter(ABC):
    """A number that all ranks share; it starts at 0."""

    @abstractmethod
    def next(self) -> int:
        """Return the number and increase it by one. Any rank may call it at any time."""

    @abstractmethod
    def close(self) -> None:
        """Release the counter; collective."""


class Comm(ABC):
    """The ranks of one job and their communication.

    Attributes:
        world: this rank among them.
        library: name and version of the library that carries messages; empty where there is one rank.
        broadcast_bytes, broadcast_seconds: bytes that `broadcast_` has sent so far, and the time it took.
    """

    world: World
    library: str
    broadcast_bytes = 0
    broadcast_seconds = 0.0

    @abstractmethod
    def bcast(self, value: T) -> T:
        """Return rank 0's value, on every rank. For small objects."""

    @abstractmethod
    def gather_all(self, value: T) -> list[T]:
        """Return every rank's value, in order of ranks, on every rank. For small objects."""

    def broadcast_(self, pieces: "Sequence[torch.Tensor]") -> None:
        """Overwrite each tensor in place with rank 0's.

        Args:
            pieces: contiguous 1-D uint8 CPU tensors, of the same sizes on every rank.
        """
        began = time.perf_counter()
        self._broadcast(pieces)
        self.broadcast_seconds += time.perf_counter() - began
        self.broadcast_bytes += sum(map(len, pieces))

    @abstractmethod
    def _broadcast(self, pieces: "Sequence[torch.Tensor]") -> None:
        """Broadcast the tensors; see `broadcast_`."""

    @abstractmethod
    def broadcast_to_hosts_(self, pieces: "Sequence[torch.Tensor]") -> None:
        """Overwrite tensors with rank 0's on the first rank of each host, see `broadcast_`; others give no pieces."""

    @abstractmethod
    def bcast_on_host(self, value: T) -> T:
        """Return the value of the first rank of this host, on every rank of it. For small objects."""

    @abstractmethod
    def start_round(self, header: bytes, parts: Sequence[memoryview]) -> Round:
        """Start to send every rank's header to every rank, and every rank's piece to rank 0. One at a time.

        Args:
            header: bytes, of the same length on every rank.
            parts: bytes that together are the piece, of any length; of all ranks together at most 1 GiB.
        """

    @abstractmethod
    def counter(self) -> Counter:
        """Make a counter that all ranks share."""

    @abstractmethod
    def beat(self, state: str) -> list[str] | None:
        """Send a heartbeat to the next rank; return those that have come from the previous one since the last call.

        Not collective; may be called in a thread of its own. Returns None where there is no other rank.
        """

    @property
    def previous(self) -> str:
        """The previous rank of the ring, in words."""
        return f"rank {(self.world.rank - 1) % self.world.world_size} of {self.world.world_size}"

    @abstractmethod
    def abort(self, error: RunnerError) -> None:
        """Abort the job because of an error on this rank alone.

        Returns only if this is the only rank and the call is in the thread of the job, which can raise the error.
        """

    @abstractmethod
    def close(self) -> None:
        """Leave the job; waits until every rank is about to leave."""

    def on_root(self, function: Callable[[], T]) -> T:
        """Call a function on rank 0 alone; every rank gets its result, or raises its error."""
        return _settle(self.bcast(cast(T, _attempt(function) if self.world.rank == 0 else None)))

    def on_each(self, function: Callable[[], T]) -> T:
        """Call a function on every rank; if it fails on any, all raise the error of the first such rank."""
        outcome = _attempt(function)
        errors = self.gather_all((outcome if isinstance(outcome, RunnerError) else None, self.world.who))
        failed = [(error, who) for error, who in errors if error is not None]
        if failed:
            # where all fail alike (a typing error in the model, say) no single rank is to blame
            everywhere = len(failed) == len(errors) and all(str(error) == str(failed[0][0]) for error, _ in failed)
            _settle(failed[0][0], "" if everywhere else failed[0][1])
        return _settle(outcome)


def _settle(outcome: T | RunnerError, who: str = "") -> T:
    """Return the result of a function, or raise its error as a shared one; `who` is the rank to blame for it."""
    if isinstance(outcome, RunnerError):
        outcome.shared = True
        outcome.who = who
        raise outcome
    return outcome


def _attempt(function: Callable[[], T]) -> T | RunnerError:
    try:
        return function()
    except Exception as error:
        converted = as_runner_error(error)
        converted.__cause__ = converted.__context__ = converted.__traceback__ = None  # it is sent; see `details`
        return converted


def connect(launch: Launch, backend: str, collect: str, device: str, timeout_seconds: float = 900) -> Comm:
    """Join the job this process was launched into.

    Args:
        launch: what the launcher said.
        backend: "horovod" or "mpi", for more than one rank.
        collect: one of `COLLECT_MODES`, by which the pieces of a round go to rank 0 alone or to all ranks.
        device: "cpu" or "cuda", what the ranks will compute on.
        timeout_seconds: the longest that the ranks may take to find each other.

    Raises:
        UsageError: the launch cannot work, or Horovod or mpi4py is missing.
    """
    if launch.world_size == 1:  # also under a launcher, such as an interactive shell of Slurm
        from runner.comm.single import SingleComm

        return SingleComm(launch.launcher)
    from runner.comm.guard import guarded_start

    with guarded_start(launch, timeout_seconds):
        try:
            if backend == "mpi":
                from runner.comm.mpi import MpiComm

                return MpiComm(launch, collect)
            from runner.comm.horovod import HorovodComm

            return HorovodComm(launch, collect, device)
        except RunnerError:
            raise
        except Exception as error:
            raise UsageError(
                f"MPI failed when the ranks connected: {describe(error)}. Do the hosts reach each other, and has each "
                f"a name of its own? This one is called {socket.gethostname()}"
            ) from error


def connect_leaders(everyone: Comm, size: int, launch: Launch, backend: str, collect: str, device: str) -> Comm | None:
    """Join the first ranks of all groups of `size` ranks; every rank calls this. Returns None on the others.

    Args:
        everyone: all ranks, by MPI.
        size: number of ranks of a group.
        launch, backend, collect, device: see `connect`.
    """
    from runner.comm.mpi import MpiComm

    assert isinstance(everyone, MpiComm)
    some = everyone.only(everyone.world.rank % size == 0)
    if some is None:
        return None
    if backend == "mpi" or some.Get_size() == 1:
        return MpiComm(launch, collect, some, everyone.world.who)
    from runner.comm.horovod import HorovodComm

    return HorovodComm(launch, collect, device, some, everyone.world.who)


def wait(done: Callable[[], bool]) -> None:
    """Return once `done()` is true, without taking the core from ranks that still compute."""
    pause = 0.0002
    while not done():
        time.sleep(pause)
        pause = min(pause * 1.5, 0.005)
