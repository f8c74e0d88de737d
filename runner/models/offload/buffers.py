"""The buffers of a module whose parameters are on the meta device: real ones, the same on every rank."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from runner.comm import Comm
from runner.core.errors import ModelError
from runner.models.offload.stored import real_storages
from runner.models.weights.storages import named_tensors


def fill_buffers(
    model: nn.Module, name: str, given: Mapping[str, torch.Tensor], build: Callable[[], Any] | None
) -> None:
    """Give buffers their values.

    Args:
        model: the module.
        name: of the model, for messages.
        given: what the weights file holds.
        build: makes the whole module, where buffers that are not in the file may be random: these are others where
            parameters draw no numbers. None leaves them as they are.

    Raises:
        ModelError: there are tensors that were made of parameters and are in no file.
    """
    for full, buffer in list(model.named_buffers()):
        if buffer.is_meta and full in given:
            owner, _, leaf = full.rpartition(".")
            model.get_submodule(owner)._buffers[leaf] = torch.empty_like(buffer, device="cpu")
    parameters = {id(parameter) for parameter in model.parameters()}
    lost = [full for full, tensor in named_tensors(model) if tensor.is_meta and id(tensor) not in parameters]
    if lost:
        raise ModelError(
            f"{name} computes {', '.join(lost[:4])}{' and more' * (len(lost) > 4)} of its parameters when it is built; "
            "with --offload disk they have no values then. Compute it when the model is called"
        )
    brought = given
    if build and any(full not in given for full, _ in model.named_buffers()):
        brought = {**dict(build().named_buffers()), **given}
    for full, buffer in model.named_buffers():
        if full in brought:
            buffer.copy_(brought[full])


def send_buffers(comm: Comm, model: nn.Module, name: str) -> None:
    """Overwrite all that is not on the meta device with rank 0's; every rank calls it.

    Raises:
        ModelError: on every rank alike: one has built another module than rank 0.
    """
    raws = real_storages(model)
    here = [(full, len(raw)) for full, raw in raws]
    wanted = comm.bcast(here)

    def compare() -> None:
        if here != wanted:
            raise ModelError(f"{name} builds another model here than on rank 0; it must not depend on the rank or host")

    comm.on_each(compare)
    comm.broadcast_([raw for _, raw in raws])
