"""The model of a group: built without its parameters on every rank, split, and filled from what rank 0 reads."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from runner.comm import Comm
from runner.config import Config
from runner.errors import ModelError
from runner.groups import Groups
from runner.models.adapt import convert
from runner.models.weights import own_tensors
from runner.parallel.kinds import find_kind
from runner.parallel.tensor import fill, parameters_on_meta, split_module, tied_parameters


def build_split(
    config: Config, comm: Comm, groups: Groups, mesh: DeviceMesh, device: torch.device
) -> tuple[Callable[..., Any], str]:
    """This rank's part of the model, on `device` and in evaluation mode, and the digest of the whole weights.

    Every rank of the job calls it.

    Raises:
        UsageError: the model, or what is asked of it, cannot be split.
        ModelError: it cannot be built, split or filled; both on every rank alike.
    """
    kind = find_kind(config, comm, device)

    def build() -> tuple[nn.Module, bool]:
        with parameters_on_meta(), torch.random.fork_rng(devices=[]):
            before = torch.random.manual_seed(0).get_state()
            model = kind.build()
            is_random = not torch.equal(before, torch.get_rng_state())
        return convert(model.eval(), config), is_random

    model, is_random = comm.on_each(build)
    tied = tied_parameters(model)
    plan = comm.on_each(lambda: kind.plan(model, groups.size))

    def read() -> dict[str, torch.Tensor] | None:
        if comm.world.rank:
            return None
        weights = kind.read(own_tensors(model), lambda name: tied.get(name, name))
        owned = {owner: weights[name] for name, owner in tied.items() if name in weights}
        buffers: dict[str, torch.Tensor] = {}
        if is_random and any(name not in weights for name, _ in model.named_buffers()):
            # random numbers are others where parameters draw none; so what no weights bring is taken from a whole model
            buffers = dict(convert(kind.build(), config).named_buffers())
        return buffers | owned | weights  # a tied pair may be there under either name

    weights = comm.on_each(read)
    split = comm.on_each(lambda: split_module(model, plan, mesh))
    weights_digest, part_digest = fill(comm, groups, split, tied, weights)
    _compare(comm, groups, part_digest)
    return kind.wrap(comm.on_each(lambda: split.to(device))), weights_digest


def _compare(comm: Comm, groups: Groups, part_digest: str) -> None:
    """Raise ModelError where a rank holds something else than the one at its place in the first group."""
    digests = comm.gather_all((part_digest, comm.world.who))

    def compare() -> None:
        wrong = [who for rank, (found, who) in enumerate(digests) if found != digests[groups.place(rank)][0]]
        if wrong:
            raise ModelError(f"the weights received differ from those of the first group on {', '.join(wrong)}")

    comm.on_each(compare)
