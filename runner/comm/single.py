"""The backend of one rank, with or without a launcher; needs neither MPI nor Horovod."""

import os
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from runner.comm import Comm
from runner.errors import RunnerError, render
from runner.world import Launch, single_world

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


class SingleComm(Comm):
    """A world of one: every collective is the identity."""

    def __init__(self, launch: Launch) -> None:
        self.world = single_world(launch.launcher)

    def bcast(self, value: T) -> T:
        return value

    def gather_all(self, value: T) -> list[T]:
        return [value]

    def broadcast_(self, pieces: "Sequence[torch.Tensor]") -> None:
        pass

    def start_allgather(self, data: "torch.Tensor") -> Any:
        return data

    def poll(self, handle: Any) -> bool:
        return True

    def result(self, handle: "torch.Tensor") -> "torch.Tensor":
        return handle

    def beat(self, state: str) -> list[str] | None:
        return None

    def fail(self, error: RunnerError) -> None:
        if threading.current_thread() is not threading.main_thread():
            print(render(error), file=sys.stderr, flush=True)
            os._exit(error.exit_code)  # the main thread hangs

    def close(self) -> None:
        pass
