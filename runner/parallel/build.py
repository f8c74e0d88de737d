"""The model of a group: built without parameters on every rank, split, and filled with the weights rank 0 reads."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from runner.comm import Comm
from runner.comm.groups import Groups, default_micro_batches
from runner.config.options import Config
from runner.core.errors import ModelError
from runner.host.launch import warn
from runner.models.weights.adapt import convert
from runner.models.weights.meta import tied_parameters
from runner.models.weights.sending import build_alike
from runner.models.weights.state_dict import note_ignored, note_initial, own_state
from runner.parallel.fake_tensors import hide_parameters
from runner.parallel.pipeline import Pipeline
from runner.parallel.plans import find_kind
from runner.parallel.scatter_weights import fill
from runner.parallel.stage_link import Waiting
from runner.parallel.stages import cut_into_stages
from runner.parallel.tensor import split_module


def build_split(
    config: Config, comm: Comm, groups: Groups, mesh: DeviceMesh, device: torch.device, waiting: Waiting
) -> tuple[Callable[..., Any], str, int]:
    """Return this rank's part of the model, on `device` and in evaluation mode, the digest of the complete weights, and
    the size in bytes of the parameters and buffers in this part.

    Every rank of the job calls this; `waiting` is a context in which the model waits for other ranks.

    Raises:
        UsageError: the model cannot be split, or not with these options; on every rank alike.
        ModelError: it cannot be built, split or filled; on every rank alike.
    """
    kind = find_kind(config, comm, device)

    model, is_random = build_alike(comm, kind.build)
    model = comm.on_each(lambda: convert(model.eval(), config))
    tied = tied_parameters(model)
    plan = comm.on_each(lambda: kind.plan(model, groups.tensor_size) if groups.tensor_size > 1 else {})
    stages = comm.on_each(lambda: cut_into_stages(model, groups.stages, config.split_points))

    def read() -> dict[str, torch.Tensor] | None:
        if comm.world.rank:
            return None
        weights = kind.read(own_state(model), lambda name: tied.get(name, name))
        owned = {owner: weights[name] for name, owner in tied.items() if name in weights}
        buffers: dict[str, torch.Tensor] = {}
        if is_random and any(name not in weights for name, _ in model.named_buffers()):
            # random buffers have other values where parameters draw no numbers; missing ones come from a complete model
            buffers = dict(convert(kind.build(), config).named_buffers())
        return buffers | owned | weights  # a tied pair may be there under either name

    weights = comm.on_each(read)
    own_stage = groups.stage(comm.world.rank)
    if groups.tensor_size > 1:
        model = comm.on_each(lambda: split_module(model, plan, mesh, lambda name: stages.has(own_stage, name)))
    weights_digest, part_digest = fill(comm, groups, model, tied, weights, stages.holds, device)
    _compare(comm, groups, part_digest)
    num_bytes = _bytes_of(model)
    if groups.stages > 1:
        hide_parameters(model, device)
        micro_batches = config.micro_batches or default_micro_batches(groups.stages)
        Pipeline(model, stages, groups, comm.world.rank, device, micro_batches, waiting)
    warn(comm.world, kind.untrained)
    weights_digest = comm.bcast(note_initial(note_ignored(weights_digest, kind.ignored), kind.untrained))
    return kind.wrap(model), weights_digest, num_bytes


def _bytes_of(model: nn.Module) -> int:
    tensors = [tensor for tensor in (*model.parameters(), *model.buffers()) if not tensor.is_meta]
    return sum((tensor.to_local() if isinstance(tensor, DTensor) else tensor).nbytes for tensor in tensors)


def _compare(comm: Comm, groups: Groups, part_digest: str) -> None:
    """Raise ModelError where a rank's weights differ from those of the rank at its place in the first group."""
    digests = comm.gather_all((part_digest, comm.world.who))

    def compare() -> None:
        wrong = [who for rank, (digest, who) in enumerate(digests) if digest != digests[groups.place(rank)][0]]
        if wrong:
            raise ModelError(f"the weights received differ from those of the first group on {', '.join(wrong)}")

    comm.on_each(compare)
