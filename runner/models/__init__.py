"""A model ready to run on every rank, the same bytes on each; rank 0 alone opens the weights.

The other ranks build the module on the `meta` device, which holds no data, allocate it, and receive rank 0's
storages in place. What every rank then holds is compared before the first batch.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from runner.comm import Comm
from runner.config import Config
from runner.errors import ModelError, describe, traceback_of
from runner.imports import load_attribute, name_of
from runner.models.storages import digest, has_meta_tensors, layout, storages, to_empty_tied
from runner.models.weights import load_weights


def build_model(config: Config, comm: Comm, device: torch.device) -> tuple[nn.Module, str]:
    """The model in evaluation mode on `device`, and the digest of its weights.

    Raises:
        ModelError: on every rank alike.
    """
    is_root = comm.world.rank == 0
    factory = comm.on_each(lambda: _find_factory(config))
    model = comm.on_each(lambda: _read(factory, config) if is_root else _skeleton(factory, config))
    wanted = comm.bcast(layout(model))
    model = comm.on_each(lambda: _conform(model, wanted, factory, config))
    comm.broadcast_([raw for _, raw in storages(model)])
    weights_digest = digest(model)
    digests = comm.gather_all((weights_digest, comm.world.who))
    comm.on_each(lambda: _compare(digests))
    return model.eval().to(device), weights_digest


def _find_factory(config: Config) -> Callable[..., Any]:
    factory = load_attribute(config.model, "--model") if isinstance(config.model, str) else config.model
    if not callable(factory):
        raise ModelError(f"--model {config.model!r} is a {type(factory).__name__}, not a function or class")
    return factory


def _read(factory: Callable[..., Any], config: Config) -> nn.Module:
    model = _call(factory, config)
    if config.weights is not None:
        load_weights(model, config.weights)
    return model


def _skeleton(factory: Callable[..., Any], config: Config) -> nn.Module:
    """A module of the right layout with whatever is in its memory."""
    try:
        with torch.device("meta"):
            model = to_empty_tied(_call(factory, config))
    except Exception:  # the factory looks at its own values, which do not exist on the meta device
        return _call(factory, config)
    return _call(factory, config) if has_meta_tensors(model) else model


def _conform(model: nn.Module, wanted: list[tuple[str, int]], factory: Callable[..., Any], config: Config) -> nn.Module:
    """`model` where it is of rank 0's layout; else one built with memory from the start."""
    if layout(model) == wanted:
        return model
    model = _call(factory, config)
    if layout(model) != wanted:
        raise ModelError(
            f"--model {name_of(config.model)} builds another model here than on rank 0: {len(wanted)} tensors of "
            f"{sum(size for _, size in wanted)} bytes there, {len(layout(model))} of "
            f"{sum(size for _, size in layout(model))} here. The factory must not depend on the rank or host"
        )
    return model


def _call(factory: Callable[..., Any], config: Config) -> nn.Module:
    name = f"--model {name_of(config.model)}"
    try:
        model = factory(**config.model_args)
    except Exception as error:
        raise ModelError(f"{name} raised {describe(error)}", details=traceback_of(error)) from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{name} returned a {type(model).__name__}, not a torch.nn.Module")
    return model


def _compare(digests: list[tuple[str, str]]) -> None:
    differing = [who for found, who in digests if found != digests[0][0]]
    if differing:
        raise ModelError(f"the weights received differ from rank 0's on {', '.join(differing)}")
