"""A model ready to run on every rank, with the same bytes on each; only rank 0 opens its files.

What --model names is one of the kinds in `runner/config/model_kinds.py`, each with the function that builds it: a
factory with or without a state dict, a folder of a library, or a file that holds a complete model. The kind of a path
is detected from its content.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from runner.comm import Comm
from runner.config.options import Config
from runner.core.imports import load_attribute
from runner.models.kind import find_model_kind
from runner.models.weights.adapt import refuse_adaptations

Model = Callable[..., Any]


def input_device(model: Model, device: torch.device) -> torch.device:
    """Return the device on which a model takes its batches: that of modules, and of models that say so; else the CPU.

    ONNX Runtime and most callables of users take tensors on the CPU.
    """
    is_there = isinstance(model, nn.Module) or getattr(model, "takes_device_tensors", False)
    return device if is_there else torch.device("cpu")


def build_model(config: Config, comm: Comm, device: torch.device) -> tuple[Model, str]:
    """Return the model on `device`, ready to be called with a batch, and the digest of its weights.

    Raises:
        ModelError: the model cannot be built; on every rank alike.
        UsageError: options do not fit the model; on every rank alike.
    """
    kind = find_model_kind(config, comm)
    comm.on_each(lambda: refuse_adaptations(config, but=kind.adaptations))
    if config.offload is not None:
        from runner.models.offload.offload import build_offloaded

        return build_offloaded(config, comm, device)
    build = comm.on_each(lambda: load_attribute(kind.build, "--model"))
    model, digest = build(config, comm, device)
    return model, digest
