"""Backend of one rank, with or without a launcher; needs neither MPI nor Horovod."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from runner.comm import Comm, Counter, Round
from runner.core.errors import RunnerError, render
from runner.core.messages import tell
from runner.host.launch import single_world
from runner.host.notebook import in_notebook

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
_INTERRUPT_SECONDS = 0.2


class SingleComm(Comm):
    """World of one rank: every collective is the identity."""

    def __init__(self, launcher: str = "none") -> None:
        self.world = single_world(launcher)
        self.library = ""
        self._thread = threading.current_thread()

    def bcast(self, value: T) -> T:
        return value

    def gather_all(self, value: T) -> list[T]:
        return [value]

    def _broadcast(self, pieces: "Sequence[torch.Tensor]") -> None:
        pass

    def broadcast_to_hosts_(self, pieces: "Sequence[torch.Tensor]") -> None:
        pass

    def bcast_on_host(self, value: T) -> T:
        return value

    def start_round(self, header: bytes, parts: Sequence[memoryview]) -> Round:
        return _SingleRound(header, np.frombuffer(b"".join(parts), np.uint8))

    def counter(self) -> Counter:
        return _SingleCounter()

    def beat(self, state: str) -> list[str] | None:
        return None

    def abort(self, error: RunnerError) -> None:
        if threading.current_thread() is not self._thread:
            tell(render(error))
            if not in_notebook() or self._thread is not threading.main_thread():
                os._exit(error.exit_code)  # the thread of the job hangs
            for _ in range(2):  # the first asks the job to stop, the second to stop at once; the kernel lives on
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(_INTERRUPT_SECONDS)

    def close(self) -> None:
        pass


class _SingleRound(Round):
    def __init__(self, header: bytes, piece: np.ndarray) -> None:
        self._header = header
        self._piece = piece

    def done(self) -> bool:
        return True

    def result(self) -> list[tuple[bytes, np.ndarray]]:
        return [(self._header, self._piece)]


class _SingleCounter(Counter):
    def __init__(self) -> None:
        self._numbers = itertools.count()

    def next(self) -> int:
        return next(self._numbers)

    def close(self) -> None:
        pass
