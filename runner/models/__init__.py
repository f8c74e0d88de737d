"""A model ready to run on every rank, with the same bytes on each; only rank 0 opens its files.

After training, a user has a factory with a state dict (`loaders/factory.py`), a folder of Hugging Face
(`transformers/folder.py`) or of timm (`images/timm.py`), or a file that holds a complete model. The format of a file is
detected from its content, and one table names the module for each format. Such a file is sent as it is, and each rank
loads it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from runner.comm import Comm
from runner.config.options import Config
from runner.core.imports import load_attribute
from runner.core.plugins import find_plugin
from runner.models.formats import EXPORTED, FOLDER, ONNX, TORCHSCRIPT
from runner.models.images.timm import build_from_timm, is_timm_folder
from runner.models.kind import FACTORY, PLUGIN, find_model_kind
from runner.models.loaders.factory import build_from_factory
from runner.models.loaders.onnx import build_from_onnx
from runner.models.transformers.folder import build_from_folder
from runner.models.transformers.pretrained import Pretrained
from runner.models.weights.adapt import refuse_adaptations
from runner.models.weights.files import broadcast_file, load_model_file

# each loader makes a model from a path, the device and the configuration
_LOADERS = {
    TORCHSCRIPT: "runner.models.loaders.torchscript:load",
    EXPORTED: "runner.models.loaders.exported:load",
}

Model = Callable[..., Any]


def input_device(model: Model, device: torch.device) -> torch.device:
    """Return the device on which a model takes its batches: its own; the CPU for ONNX Runtime and user callables."""
    return device if isinstance(model, nn.Module | Pretrained) else torch.device("cpu")


def build_model(config: Config, comm: Comm, device: torch.device) -> tuple[Model, str]:
    """Return the model on `device`, ready to be called with a batch, and the digest of its weights.

    Raises:
        ModelError: the model cannot be built; on every rank alike.
        UsageError: options do not fit the model; on every rank alike.
    """
    kind = find_model_kind(config, comm)
    if kind == ONNX:
        comm.on_each(lambda: refuse_adaptations(config, but=("dtype",)))
        return build_from_onnx(config, comm, device)
    if config.offload is not None:
        from runner.models.offload.offload import build_offloaded

        return build_offloaded(config, comm, device)
    if kind == FOLDER:
        if comm.on_root(lambda: is_timm_folder(str(config.model))):
            return build_from_timm(config, comm, device)
        return build_from_folder(config, comm, device)
    if kind == FACTORY:
        return build_from_factory(config, comm, device)
    if kind == PLUGIN:
        return build_from_factory(comm.on_each(lambda: _as_factory(config)), comm, device)
    comm.on_each(lambda: refuse_adaptations(config, but=("dtype",) if kind == EXPORTED else ()))
    load = comm.on_each(lambda: load_attribute(_LOADERS[kind], "--model"))
    file, digest = broadcast_file(comm, str(config.model), "--model")
    model = comm.on_each(lambda: load_model_file(load, file, config, device))
    return model, digest


def _as_factory(config: Config) -> Config:
    """Return the job with the loader of another package as the factory of its model."""
    path = str(config.model)
    plugin = find_plugin("models", path)
    assert plugin is not None
    load = load_attribute(plugin[1], f"--model {path}")

    def factory(**arguments: Any) -> Any:
        return load(path, **arguments)

    factory.__module__, factory.__qualname__ = load.__module__, load.__qualname__
    return dataclasses.replace(config, model=factory)
