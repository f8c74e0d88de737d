"""Communication between ranks: what the rest of the runner may ask for, and which backend answers.

The backends are one rank (`single.py`) and Horovod over MPI (`horovod.py`), of one shape. Every method except
`fail`, `beat` and `poll` is collective: every rank calls it, in the same order.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from runner.errors import RunnerError, as_runner_error
from runner.world import Launch, World

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


class Comm(ABC):
    """The ranks of one job."""

    world: World

    @abstractmethod
    def bcast(self, value: T) -> T:
        """Rank 0's value, on every rank. For small objects."""

    @abstractmethod
    def gather_all(self, value: T) -> list[T]:
        """Every rank's value by rank, on every rank. For small objects."""

    @abstractmethod
    def broadcast_(self, pieces: "Sequence[torch.Tensor]") -> None:
        """Overwrite each tensor in place with rank 0's.

        Args:
            pieces: contiguous 1-D uint8 CPU tensors, of the same sizes on every rank.
        """

    @abstractmethod
    def start_allgather(self, data: "torch.Tensor") -> Any:
        """Start to gather every rank's 1-D uint8 CPU tensor, of any length, on every rank; return a handle."""

    @abstractmethod
    def poll(self, handle: Any) -> bool:
        """Whether what the handle stands for is complete."""

    @abstractmethod
    def result(self, handle: Any) -> "torch.Tensor":
        """What a completed allgather has gathered: 1-D uint8, by rank."""

    @abstractmethod
    def beat(self, state: str) -> list[str] | None:
        """Send a sign of life to the next rank; return those that have come from the previous one since the last call.

        Not collective; may be called in a thread of its own. None where there is no other rank.
        """

    @property
    def previous(self) -> str:
        """The previous rank of the ring, in words."""
        return f"rank {(self.world.rank - 1) % self.world.world_size} of {self.world.world_size}"

    @abstractmethod
    def fail(self, error: RunnerError) -> None:
        """End the job at once because of an error on this rank alone.

        Returns only where this is the only rank and the call is in its main thread, which can raise the error.
        """

    @abstractmethod
    def close(self) -> None:
        """Leave the job; waits until every rank is about to."""

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
    """The result of a function, or its error raised as one that every rank has; `who` is the rank to blame for it."""
    if isinstance(outcome, RunnerError):
        outcome.shared = True
        outcome.who = who
        raise outcome
    return outcome


def _attempt(function: Callable[[], T]) -> T | RunnerError:
    try:
        return function()
    except Exception as error:
        found = as_runner_error(error)
        found.__cause__ = found.__context__ = found.__traceback__ = None  # it travels; its text is in `details`
        return found


def connect(launch: Launch, device: str) -> Comm:
    """Join the job this process was launched into.

    Args:
        launch: what the launcher said.
        device: "cpu" or "cuda", what the ranks will compute on.

    Raises:
        UsageError: the launch cannot work, or Horovod or mpi4py is missing.
    """
    if launch.world_size == 1:  # also under a launcher, such as an interactive shell of Slurm
        from runner.comm.single import SingleComm

        return SingleComm(launch)
    from runner.comm.horovod import HorovodComm

    return HorovodComm(launch, device)


def wait(done: Callable[[], bool]) -> None:
    """Return when `done()` says so, without taking the core from the ranks that still compute."""
    pause = 0.0002
    while not done():
        time.sleep(pause)
        pause = min(pause * 1.5, 0.005)
