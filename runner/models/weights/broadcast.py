"""Distribution of the model that rank 0 has read to every rank, whatever its class."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from runner.comm import Comm
from runner.config.options import Config
from runner.core.errors import ModelError, UsageError, shared
from runner.core.text import byte_size, plural
from runner.host.launch import warn
from runner.models.weights.adapt import convert, finish, refuse_adaptations, refuse_for_device
from runner.models.weights.files import compare_digests
from runner.models.weights.meta import parameters_on_meta
from runner.models.weights.sending import Sent, broadcast_in_place, send
from runner.models.weights.storages import digest, layout, storages

Build = Callable[[], Any]


def spread(
    comm: Comm, config: Config, name: str, read: Build, build: Build, device: torch.device, has_effects: bool = False
) -> tuple[Any, str]:
    """Give every rank the model that rank 0 reads, on `device` and in evaluation mode.

    Args:
        comm: the ranks.
        config: options for the model, such as its dtype and compilation.
        name: name of the model, for messages.
        read: makes the model with its weights, on the CPU; called on rank 0 alone.
        build: makes it with arbitrary weights; called on the other ranks where rank 0's cannot be sent.
        device: device of the model on this rank.
        has_effects: whether `build` may have side effects (a factory of the user may set PyTorch's options, or fill
            tables of its module): then it is always called on the other ranks.

    Returns:
        (model, digest): the digest of its weights and all other tensors and arrays; "none" where there are none.

    Raises:
        ModelError: the model cannot be made or sent; on every rank alike.
    """
    comm.on_each(lambda: refuse_for_device(config, device))
    read = _converted(read, config)
    build = _converted(build, config)
    model: Any = comm.on_each(
        lambda: read() if comm.world.rank == 0 else _call_for_effects(build) if has_effects else None
    )
    sent = send(comm, model, device, config.share_weights)
    model = sent.thing if isinstance(sent, Sent) else comm.on_each(lambda: model if comm.world.rank == 0 else build())
    is_module = comm.bcast(isinstance(model, nn.Module))
    if not is_module:
        comm.on_each(lambda: refuse_adaptations(config))
    more: list[torch.Tensor] = []
    if isinstance(sent, Sent):
        named = {raw.data_ptr() for _, raw in storages(model)} if is_module else set()
        more = [*(raw for raw in sent.storages if len(raw) and raw.data_ptr() not in named), *sent.arrays]
        del sent
    elif is_module:
        _receive_named(comm, config, model, name, sent)
    else:
        return model, "none"
    weights_digest = digest(model, more) if is_module or more else "none"
    compare_digests(comm, weights_digest)
    return comm.on_each(
        lambda: finish(in_evaluation_mode(model).to(device), config, comm.world) if is_module else model
    ), weights_digest


def _converted(build: Build, config: Config) -> Build:
    """Wrap `build` so that the module's weights are converted as the options say: the bytes sent are those used."""

    def converted() -> Any:
        model = build()
        return convert(model, config) if isinstance(model, nn.Module) else model

    return converted


def _call_for_effects(build: Build) -> None:
    """Call a factory for its side effects; the model is discarded, and its parameters take no memory."""
    try:
        with parameters_on_meta(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns of weights loaded into tensors without memory
            build()
    except Exception:  # it reads its own parameters, or fails here; then sending fails, too, or it does not matter
        build()


def _receive_named(comm: Comm, config: Config, model: nn.Module, name: str, why_not: str) -> None:
    """Overwrite the tensors of a module that each rank has built with rank 0's.

    Raises:
        ModelError, UsageError: on every rank alike: the modules differ, or should be in shared memory.
    """
    if config.share_weights:
        raise shared(UsageError(f"--share-weights: {name} cannot be sent to the other ranks as it is: {why_not}"))
    if comm.world.world_size > 1:
        warn(
            comm.world,
            f"{name} cannot be sent as it is ({why_not}): each rank builds it, and gets rank 0's parameters, buffers "
            "and tensors that are attributes of modules",
        )
    wanted = comm.bcast(layout(model))

    def compare() -> None:
        if (own := layout(model)) != wanted:
            raise ModelError(
                f"{name} builds a different model here than on rank 0: {plural(len(wanted), 'tensor')} of "
                f"{byte_size(sum(size for _, size in wanted))} there, {len(own)} of "
                f"{byte_size(sum(size for _, size in own))} here. It could not be sent from rank 0 ({why_not}), so it "
                "must not depend on the rank or host"
            )

    comm.on_each(compare)
    broadcast_in_place(comm, [raw for _, raw in storages(model)])


def in_evaluation_mode(model: nn.Module) -> nn.Module:
    """Return the module in evaluation mode; a program of torch.export stays in the mode that it was exported in."""
    try:
        return model.eval()
    except NotImplementedError:
        return model
