"""How long a rank exchanges tensors with its group, or waits for it, while it computes.

What the layers of a split model exchange is sampled: timing each operation of each call would slow all of them. One
call of 16 is timed, operation by operation, and its share holds for the others. Ranks of a group sample the same calls,
so that none waits for another's clock. On a GPU the operations of a sampled call are waited for, one after another.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

_T = TypeVar("_T")

_EVERY, _FIRST = 16, 1  # the first call of all has its shapes to work out
_NAMESPACES = ("_c10d_functional", "_c10d_functional_autograd", "c10d")
_ISSUE_OTHERS = (DTensor, AsyncCollectiveTensor)  # their operations become those of their parts


class Exchange:
    """Of one rank, over all calls of its part of the model since `begin`.

    Args:
        device: of this rank.
        samples: single layers are split; False where there are no such collectives to look for.
    """

    def __init__(self, device: torch.device, samples: bool = True) -> None:
        self._device, self._samples = device, samples
        self.begin()

    def begin(self) -> None:
        """Forget what has been counted."""
        self._calls, self._waits = 0, 0.0
        self._computed = 0.0  # seconds of the calls without the waits in them
        self._sampled, self._exchanged = 0.0, 0.0  # of these, those of sampled calls, and of their collectives
        self._mode = _Collectives(self._device)

    @property
    def seconds(self) -> float:
        """The waits, and as much of the calls as the sampled ones spent in collectives."""
        return self._waits + (self._computed * self._exchanged / self._sampled if self._sampled else 0.0)

    def call(self, function: Callable[[], _T]) -> _T:
        """What the function gives, which calls this rank's part."""
        is_sampled = self._samples and self._calls % _EVERY == _FIRST
        self._calls += 1
        waits, exchanged, began = self._waits, self._mode.seconds, time.perf_counter()
        if is_sampled:
            with self._mode:
                found = function()
            self._mode.settle()
        else:
            found = function()
        computed = time.perf_counter() - began - (self._waits - waits)
        self._computed += computed
        if is_sampled:
            self._sampled += computed
            self._exchanged += self._mode.seconds - exchanged
        return found

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What is done inside, in a call or outside of one, is exchange: it is timed each time. Not to be nested."""
        exchanged, began = self._mode.seconds, time.perf_counter()
        try:
            yield
        finally:
            self._waits += time.perf_counter() - began
            self._mode.seconds = exchanged


class _Collectives(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Times the collectives that are issued while it is on, those that distributed tensors issue by themselves, too."""

    supports_higher_order_operators = True

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device, self.seconds = device, 0.0

    def settle(self) -> None:
        """Wait until the device has done what it was given."""
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(found, _ISSUE_OTHERS) for found in types):
            return NotImplemented
        if getattr(func, "namespace", "") not in _NAMESPACES:
            return func(*args, **(kwargs or {}))
        self.settle()
        began = time.perf_counter()
        found = func(*args, **(kwargs or {}))
        self.settle()
        self.seconds += time.perf_counter() - began
        return found
