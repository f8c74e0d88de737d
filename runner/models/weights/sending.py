"""Exact copies of rank 0's object on every rank: its structure is pickled, its tensors are received in place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from runner.comm import Comm
from runner.core.errors import describe
from runner.models.weights.meta import build_on_meta
from runner.models.weights.shared import share
from runner.models.weights.skeleton import Skeleton, put_together, take_apart

_SMALL_BYTES = 1 << 20
_PACK_BYTES = 32 << 20
_PICKLED_BY = ("__getstate__", "__reduce__", "__reduce_ex__")


@dataclass(frozen=True)
class Sent:
    """An object that every rank has.

    Attributes:
        thing: the object.
        storages: storages of its tensors, the same on every rank, 1-D uint8 on the CPU.
        arrays: memory of its NumPy arrays, in the same form.
    """

    thing: Any
    storages: list[torch.Tensor]
    arrays: list[torch.Tensor]


def send(comm: Comm, thing: Any, device: torch.device, shares: bool = False) -> Sent | str:
    """Send rank 0's object; every rank calls this.

    Args:
        comm: the ranks.
        thing: the object, on rank 0.
        device: device of this rank.
        shares: whether the ranks of a host share its tensors in memory.

    Returns:
        The object, on every rank; or the reason it cannot be sent, on every rank alike.

    Raises:
        RunnerError: the ranks of a host cannot share memory; on every rank alike.
    """
    apart = None
    why_not = ""
    was_moved = False
    if comm.world.rank == 0:
        try:
            apart = take_apart(thing)
            was_moved = apart.align() or _comes_out_another(thing)
        except Exception as error:
            why_not = describe(error)
    if why_not := comm.bcast(why_not):
        return why_not
    if apart is not None and comm.world.world_size == 1 and not (shares or was_moved):
        return Sent(thing, apart.storages, apart.arrays)
    skeleton = _send_skeleton(comm, apart, shares)
    if apart is None or shares or was_moved:
        thing = None
        why_not = ""
        try:
            thing = put_together(skeleton, device)
        except Exception as error:
            why_not = describe(error)
    failures = [(why, who) for why, who in comm.gather_all((why_not, comm.world.who)) if why]
    if failures:
        return f"{failures[0][0]}, on {failures[0][1]}"
    return Sent(thing, skeleton.storages, skeleton.arrays)


def _comes_out_another(thing: Any) -> bool:
    """Return whether a module in an object is pickled by a method of its own class, so that pickling may change it.

    An example is a graph of torch.fx, which is traced anew and then holds its constants twice. Such an object is
    also rebuilt on rank 0, on one rank as on many.
    """
    if not isinstance(thing, nn.Module):
        return False
    classes = {type(module) for module in thing.modules() if not isinstance(module, torch.jit.ScriptModule)}
    return any(getattr(own, name) is not getattr(nn.Module, name) for own in classes for name in _PICKLED_BY)


def _send_skeleton(comm: Comm, apart: Skeleton | None, shares: bool) -> Skeleton:
    """Return rank 0's skeleton, on every rank."""
    shape = None
    if apart is not None:
        shape = len(apart.pickled), apart.devices, list(map(len, apart.storages)), list(map(len, apart.arrays))
    num_bytes, devices, sizes, array_sizes = comm.bcast(shape)  # type: ignore[misc]
    if apart is not None:
        pickled = torch.frombuffer(bytearray(apart.pickled), dtype=torch.uint8)
        arrays = apart.arrays
    else:
        pickled = torch.empty(num_bytes, dtype=torch.uint8)
        arrays = _empty(array_sizes)
    comm.broadcast_([pickled])
    broadcast_in_place(comm, arrays)
    if shares:
        storages = share(comm, sizes, apart.storages if apart else [])
    else:
        storages = apart.storages if apart else _empty(sizes)
        broadcast_in_place(comm, storages)
    return Skeleton(pickled.numpy().tobytes(), devices, storages, arrays)


def _empty(sizes: Sequence[int]) -> list[torch.Tensor]:
    return [torch.empty(size, dtype=torch.uint8) for size in sizes]


def broadcast_in_place(comm: Comm, raws: Sequence[torch.Tensor]) -> None:
    """Overwrite tensors with rank 0's; small ones are packed together, because each broadcast has a latency.

    Args:
        comm: the ranks; each calls this.
        raws: 1-D uint8, on the CPU.
    """
    comm.broadcast_([raw for raw in raws if len(raw) >= _SMALL_BYTES])
    small = []
    size = 0
    rest = [raw for raw in raws if len(raw) < _SMALL_BYTES]
    for index, raw in enumerate(rest):
        small.append(raw)
        size += len(raw)
        if size >= _PACK_BYTES or index == len(rest) - 1:
            packed = torch.cat(small)
            comm.broadcast_([packed])
            for own, received in zip(small, torch.split(packed, [len(raw) for raw in small]), strict=True):
                own.copy_(received)
            small = []
            size = 0


def build_alike(comm: Comm, build: Callable[[], Any]) -> tuple[Any, bool]:
    """Give every rank the model that rank 0 builds without memory for parameters; every rank calls this.

    Each rank builds it, for the side effects that a factory may have; then rank 0's replaces it, if it can be sent.

    Returns:
        See `build_on_meta`.
    """
    model, is_random = comm.on_each(lambda: build_on_meta(build))
    sent = send(comm, model, torch.device("cpu"))
    return sent.thing if isinstance(sent, Sent) else model, comm.bcast(is_random)
