"""Changes that make a module faster or smaller: another dtype, memory format, compilation."""

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Collection

import torch
from torch import nn

from runner.config.model_kinds import ADAPTATIONS
from runner.config.options import Config
from runner.core.errors import UsageError
from runner.host.environment import set_variable
from runner.host.launch import World, read_variables

_COMPILE_CACHE = "TORCHINDUCTOR_CACHE_DIR"


def convert(model: nn.Module, config: Config) -> nn.Module:
    """Convert a CPU module's weights as the options say, before it is sent; its inputs must match them."""
    if config.dtype is not None:
        model = model.to(getattr(torch, config.dtype))
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def finish(model: nn.Module, config: Config, world: World) -> nn.Module:
    """Compile a module on its device, where the options say so."""
    if config.compile:
        set_variable(_COMPILE_CACHE, _cache_folder(world.host, world.local_rank))
        # one code for all numbers of rows: else it would depend on what this rank has seen before
        if type(model).compile is not nn.Module.compile:  # it knows which part of it is to be compiled
            model.compile(dynamic=True)
            return model
        compiled: nn.Module = torch.compile(model, dynamic=True)  # type: ignore[assignment]
        return compiled
    return model


@functools.cache
def _cache_folder(host: str, local_rank: int) -> str:
    """Return a folder of this rank alone: what ranks compile at the same time must not mix.

    Where the user names one, it is inside of that: by host, as the code is for its kind of processor. PyTorch's default
    was not named by the user: importing torch.distributed.pipelining sets the variable to it.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    own = read_variables([_COMPILE_CACHE]).get(_COMPILE_CACHE)
    if own and os.path.abspath(own) != os.path.abspath(default_cache_dir()):
        return os.path.join(os.path.abspath(own), f"{host}-{local_rank}")
    folder = tempfile.mkdtemp(prefix="runner-compiled-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def refuse_for_device(config: Config, device: torch.device) -> None:
    """Raise UsageError where options are set that work on the CPU only."""
    if config.share_weights and device.type != "cpu":
        raise UsageError("--share-weights works on the CPU alone: --device cpu")


def refuse_adaptations(config: Config, but: Collection[str] = ()) -> None:
    """Raise UsageError where options other than `but` are set that apply to an nn.Module only."""
    for name in ADAPTATIONS:
        if getattr(config, name) and name not in but:
            raise UsageError(
                f"--{name.replace('_', '-')} works on an nn.Module from a factory or a Hugging Face folder"
            )
