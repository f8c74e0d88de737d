"""Transfer from one stage of a pipeline to the next: for every micro-batch, the tensors that the later stage lacks.

At the first micro-batch of a batch, the later stage names the inputs of its first layer that it lacks. These then
follow for each micro-batch, after a header of shapes and dtypes. So a stage that fails can tell the next one, and can
receive the tensors that are on their way to it.
"""

import pickle
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist

from runner.comm.pieces import as_bytes
from runner.core.errors import ModelError, RunnerError
from runner.parallel.fake_tensors import is_unknown, unknown_like

_FRAME_BYTES = 4096  # size of a message between two stages, beside the tensors

Waiting = Callable[[], AbstractContextManager[None]]


class NeighborFailed(Exception):
    """Another stage could not compute the batch; that stage reports the reason."""


class Inbound:
    """The link from the stage before.

    Args:
        name: name of the layer at which this stage begins.
        peer: place of the sending rank in the group.
        device: device of this rank.
        waiting: a context in which this rank waits for others.
    """

    def __init__(self, name: str, peer: int, device: torch.device, waiting: Waiting) -> None:
        self.name = name
        self._peer = peer
        self._device = device
        self._waiting = waiting
        self.begin()

    def begin(self) -> None:
        """Prepare for a new batch."""
        self.crossed = 0
        self._has_ended = False
        self._wanted: list[int] | None = None

    def cross(self, leaves: Sequence[Any]) -> list[Any]:
        """Return the inputs of the first layer, with received values in place of those that are unknown here.

        Raises:
            NeighborFailed: the stage before has failed.
            ModelError: other values are unknown than in the first micro-batch.
        """
        lacking = [index for index, leaf in enumerate(leaves) if is_unknown(leaf)]
        if self._wanted is None:
            self._wanted = lacking
            _tell(lacking, self._peer)
        elif lacking != self._wanted:
            raise ModelError(f"{self.name} is called with different arguments for each micro-batch")
        with self._waiting():
            tensors = self._receive()
        filled = list(leaves)
        for index, tensor in zip(lacking, tensors, strict=True):
            filled[index] = tensor
        return filled

    def drain(self, total: int) -> None:
        """Receive what is on its way, for up to `total` micro-batches, after this stage has failed."""
        if self._wanted is None:
            _tell([], self._peer)
            self._wanted = []
        while self.crossed < total and not self._has_ended:
            try:
                self._receive()
            except NeighborFailed:
                return

    def _receive(self) -> list[torch.Tensor]:
        specs = _hear(self._peer)
        if specs is None:
            self._has_ended = True
            raise NeighborFailed
        tensors = [torch.empty(shape, dtype=dtype, device=self._device) for shape, dtype in specs]
        for tensor in tensors:
            dist.recv(as_bytes(tensor), self._peer)
        self.crossed += 1
        return tensors


class Outbound:
    """The link to the next stage.

    Args:
        name: name of the layer at which that stage begins.
        peer: place of the receiving rank in the group.
        waiting: a context in which this rank waits for others.
    """

    def __init__(self, name: str, peer: int, waiting: Waiting) -> None:
        self.name = name
        self._peer = peer
        self._waiting = waiting
        self._under_way: list[tuple[Any, torch.Tensor]] = []
        self.begin()

    def begin(self) -> None:
        """Prepare for a new batch."""
        self.crossed = 0
        self._wanted: list[int] | None = None

    def cross(self, leaves: Sequence[Any]) -> list[Any]:
        """Start to send the layer's inputs that its stage lacks; the rest of this forward works on unknown values.

        Returns:
            The same leaves, with unknown tensors in place of the tensors.

        Raises:
            ModelError: the values are unknown here, too.
        """
        tensors = [leaves[index] for index in self._ask()]
        if any(is_unknown(tensor) for tensor in tensors):
            raise ModelError(
                f"{self.name} takes an input from more than two stages before; split the model elsewhere with "
                "--split-points, and register its layers in call order"
            )
        tensors = [tensor.contiguous() for tensor in tensors]
        self._send(_frame([(tuple(tensor.shape), tensor.dtype) for tensor in tensors]))
        for tensor in tensors:
            self._send(as_bytes(tensor))
        self.crossed += 1
        return [unknown_like(leaf) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]

    def refuse(self) -> None:
        """Tell the next stage that this one has failed, so that it does not wait for more."""
        self._ask()
        self._send(_frame(None))

    def finish(self) -> None:
        """Wait until everything has been sent."""
        with self._waiting():
            for work, _ in self._under_way:
                work.wait()
        self._under_way.clear()

    def _ask(self) -> list[int]:
        if self._wanted is None:
            with self._waiting():
                self._wanted = _hear(self._peer)
        assert self._wanted is not None
        return self._wanted

    def _send(self, tensor: torch.Tensor) -> None:
        self._under_way.append((dist.isend(tensor, self._peer), tensor))


def _frame(what: Any) -> torch.Tensor:
    pickled = pickle.dumps(what)
    if len(pickled) > _FRAME_BYTES:
        raise RunnerError(f"a stage would have to send {len(what)} tensors at once, which is too many")
    return torch.frombuffer(bytearray(pickled.ljust(_FRAME_BYTES, b"\0")), dtype=torch.uint8)


def _tell(what: Any, peer: int) -> None:
    dist.send(_frame(what), peer)


def _hear(peer: int) -> Any:
    frame = torch.empty(_FRAME_BYTES, dtype=torch.uint8)
    dist.recv(frame, peer)
    return pickle.loads(frame.numpy().tobytes())
