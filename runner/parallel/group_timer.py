"""Time that a rank spends exchanging tensors with its group, or waiting for it, during the computation.

The exchange between the layers of a split model is sampled: timing each operation of each call would slow all of them.
One call in 16 is timed, operation by operation, and its share is taken for the others. Ranks of a group sample the same
calls, so that none waits for another's clock. On a GPU, a sampled call waits for its collectives one after another.
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

_EVERY = 16
_FIRST = 1  # not the very first call, which also determines shapes
_NAMESPACES = ("_c10d_functional", "_c10d_functional_autograd", "c10d")
_ISSUE_OTHERS = (DTensor, AsyncCollectiveTensor)  # their operations turn into operations on their parts


class GroupTimer:
    """The exchange time of one rank, over all calls of its part of the model since `begin`.

    Args:
        device: device of this rank.
        samples: whether single layers are split; else there are no such collectives to sample.
    """

    def __init__(self, device: torch.device, samples: bool = True) -> None:
        self._device = device
        self._samples = samples
        self.begin()

    def begin(self) -> None:
        """Reset all counters."""
        self._calls = 0
        self._waits = 0.0
        self._computed = 0.0  # seconds of the calls, without their waits
        self._sampled = 0.0  # seconds of the sampled calls
        self._exchanged = 0.0  # seconds of the collectives in them
        self._mode = _Collectives(self._device)

    @property
    def seconds(self) -> float:
        """The waits, plus the share of collectives in the sampled calls applied to all calls; in seconds."""
        return self._waits + (self._computed * self._exchanged / self._sampled if self._sampled else 0.0)

    def call(self, function: Callable[[], _T]) -> _T:
        """Return the result of a function that calls this rank's part of the model."""
        is_sampled = self._samples and self._calls % _EVERY == _FIRST
        self._calls += 1
        waits = self._waits
        exchanged = self._mode.seconds
        began = time.perf_counter()
        if is_sampled:
            with self._mode:
                result = function()
            self._mode.settle()
        else:
            result = function()
        computed = time.perf_counter() - began - (self._waits - waits)
        self._computed += computed
        if is_sampled:
            self._sampled += computed
            self._exchanged += self._mode.seconds - exchanged
        return result

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside the context as exchange, in a call or outside one; contexts cannot be nested."""
        exchanged = self._mode.seconds
        began = time.perf_counter()
        try:
            yield
        finally:
            self._waits += time.perf_counter() - began
            self._mode.seconds = exchanged


class _Collectives(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that times the collectives issued while it is on, including those issued by distributed tensors."""

    supports_higher_order_operators = True

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = device
        self.seconds = 0.0

    def settle(self) -> None:
        """Wait until the device has finished its queued work."""
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(kind, _ISSUE_OTHERS) for kind in types):
            return NotImplemented
        if getattr(func, "namespace", "") not in _NAMESPACES:
            return func(*args, **(kwargs or {}))
        self.settle()
        began = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        self.settle()
        self.seconds += time.perf_counter() - began
        return result
