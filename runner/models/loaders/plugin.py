"""Models of formats that other installed packages add, by a function of the path."""

import dataclasses
from typing import Any

import torch

from runner.comm import Comm
from runner.config.options import Config
from runner.core.imports import load_attribute
from runner.core.plugins import find_plugin
from runner.models.loaders.factory import build_from_factory


def build_from_plugin(config: Config, comm: Comm, device: torch.device) -> tuple[Any, str]:
    """Return the model on `device`, made as by a factory, and the digest of its weights; see `build_from_factory`."""
    return build_from_factory(comm.on_each(lambda: _as_factory(config)), comm, device)


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
