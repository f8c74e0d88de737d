"""One rank's `nn.Module`, the same on every rank.

The ranks but rank 0 build it on the `meta` device, which holds no data, allocate it, and receive rank 0's storages in
place. What every rank then holds is compared.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from runner.comm import Comm
from runner.config import Config
from runner.errors import ModelError
from runner.models.adapt import convert, finish, refuse_adaptations, refuse_for_device
from runner.models.files import compare_digests
from runner.models.shared import share_storages
from runner.models.storages import digest, has_meta_tensors, layout, storages, to_empty_tied

Build = Callable[[], Any]

_SMALL_BYTES, _PACK_BYTES = 1 << 20, 32 << 20


def spread(comm: Comm, config: Config, name: str, read: Build, build: Build, device: torch.device) -> tuple[Any, str]:
    """The model that rank 0 reads, on `device` and in evaluation mode on every rank, and the digest of its weights.

    Args:
        comm: the ranks.
        config: what to do with it then.
        name: of the model, for messages.
        read: makes it with its weights, on the CPU; called on rank 0 alone.
        build: makes it with any weights; called on the others. Where `read` gives no module, what this gives is used.
        device: where it is to be.

    Raises:
        ModelError: on every rank alike.
    """
    comm.on_each(lambda: refuse_for_device(config, device))
    read, build = _converted(read, config), _converted(build, config)
    model = comm.on_each(lambda: read() if comm.world.rank == 0 else _skeleton(build))
    if not comm.bcast(isinstance(model, nn.Module)):
        comm.on_each(lambda: refuse_adaptations(config))
        return model, "none"
    wanted = comm.bcast(layout(model) if isinstance(model, nn.Module) else [])
    model = comm.on_each(lambda: _conform(model, wanted, build, name))
    if config.share_weights:
        share_storages(comm, model)
    else:
        _broadcast(comm, [raw for _, raw in storages(model)])
    weights_digest = digest(model)
    compare_digests(comm, weights_digest)
    return comm.on_each(lambda: finish(model.eval().to(device), config)), weights_digest


def _converted(build: Build, config: Config) -> Build:
    """The same, with the module's weights converted as the options say, so that what is sent is what is used."""

    def converted() -> Any:
        model = build()
        return convert(model, config) if isinstance(model, nn.Module) else model

    return converted


def _broadcast(comm: Comm, raws: list[torch.Tensor]) -> None:
    """Overwrite storages with rank 0's; small ones many at once, because each broadcast takes its time."""
    comm.broadcast_([raw for raw in raws if len(raw) >= _SMALL_BYTES])
    small, size = [], 0
    rest = [raw for raw in raws if len(raw) < _SMALL_BYTES]
    for index, raw in enumerate(rest):
        small.append(raw)
        size += len(raw)
        if size >= _PACK_BYTES or index == len(rest) - 1:
            packed = torch.cat(small)
            comm.broadcast_([packed])
            for own, received in zip(small, torch.split(packed, [len(raw) for raw in small]), strict=True):
                own.copy_(received)
            small, size = [], 0


def _skeleton(build: Build) -> Any:
    """A module of the right layout with whatever is in its memory; anything else as it is."""
    try:
        with torch.device("meta"):
            model = build()
        if isinstance(model, nn.Module):
            model = to_empty_tied(model)
    except Exception:  # it looks at its own values, which do not exist on the meta device
        return build()
    return model if isinstance(model, nn.Module) and not has_meta_tensors(model) else build()


def _conform(model: Any, wanted: list[tuple[str, int]], build: Build, name: str) -> nn.Module:
    """`model` where it is of rank 0's layout; else one built with memory from the start."""
    if isinstance(model, nn.Module) and layout(model) == wanted:
        return model
    model = build()
    here = layout(model) if isinstance(model, nn.Module) else []
    if here != wanted:
        raise ModelError(
            f"{name} builds another model here than on rank 0: {len(wanted)} tensors of "
            f"{sum(size for _, size in wanted)} bytes there, {len(here)} of {sum(size for _, size in here)} here. "
            "The factory must not depend on the rank or host"
        )
    assert isinstance(model, nn.Module)
    return model
