"""What may be done to a module that is ready, to make it faster: another dtype, another memory format, compilation."""

import atexit
import os
import shutil
import tempfile

import torch
from torch import nn

from runner.config import Config
from runner.errors import UsageError


def adapt(model: nn.Module, config: Config) -> nn.Module:
    """The module as the options want it; its inputs are to be of `config.dtype`, too."""
    if config.dtype is not None:
        model = model.to(getattr(torch, config.dtype))
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.compile:
        # a folder of its own: what ranks and jobs compile at the same time must not mix
        folder = tempfile.mkdtemp(prefix="runner-compiled-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        # one code for all numbers of rows: else it would depend on what this rank has seen before
        compiled: nn.Module = torch.compile(model, dynamic=True)  # type: ignore[assignment]
        return compiled
    return model


def refuse_adaptations(config: Config) -> None:
    """Raise UsageError where options are given that only a module can follow."""
    for name in ("dtype", "channels_last", "compile"):
        if getattr(config, name):
            raise UsageError(
                f"--{name.replace('_', '-')} works on an nn.Module from a factory or a Hugging Face folder"
            )
