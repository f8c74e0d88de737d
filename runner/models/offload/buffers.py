"""Real buffers, the same on every rank, for a module whose parameters are on the meta device."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from runner.comm import Comm
from runner.core.errors import ModelError
from runner.models.offload.stored import real_storages
from runner.models.weights.storages import named_tensors


def fill_buffers(
    model: nn.Module, name: str, tensors: Mapping[str, torch.Tensor], build: Callable[[], Any] | None
) -> None:
    """Give buffers their values.

    Args:
        model: the module.
        name: name of the model, for messages.
        tensors: the tensors of the weights file, by name.
        build: builds the complete module, which gives the values of buffers that the file lacks: random buffers have
            other values where parameters draw no numbers. None leaves such buffers as they are.

    Raises:
        ModelError: tensors are computed from parameters and are in no file.
    """
    for full, buffer in list(model.named_buffers()):
        if buffer.is_meta and full in tensors:
            owner, _, leaf = full.rpartition(".")
            model.get_submodule(owner)._buffers[leaf] = torch.empty_like(buffer, device="cpu")
    parameters = {id(parameter) for parameter in model.parameters()}
    lost = [full for full, tensor in named_tensors(model) if tensor.is_meta and id(tensor) not in parameters]
    if lost:
        raise ModelError(
            f"{name} computes {', '.join(lost[:4])}{' and more' * (len(lost) > 4)} of its parameters when it is built; "
            "with --offload disk they have no values then. Compute it when the model is called"
        )
    brought = tensors
    if build and any(full not in tensors for full, _ in model.named_buffers()):
        brought = {**dict(build().named_buffers()), **tensors}
    for full, buffer in model.named_buffers():
        if full in brought:
            buffer.copy_(brought[full])


def send_buffers(comm: Comm, model: nn.Module, name: str) -> None:
    """Overwrite everything that is not on the meta device with rank 0's values; every rank calls this.

    Raises:
        ModelError: a rank has built another module than rank 0; on every rank alike.
    """
    raws = real_storages(model)
    own = [(full, len(raw)) for full, raw in raws]
    wanted = comm.bcast(own)

    def compare() -> None:
        if own != wanted:
            raise ModelError(
                f"{name} builds a different model here than on rank 0; it must not depend on the rank or host"
            )

    comm.on_each(compare)
    comm.broadcast_([raw for _, raw in raws])
