"""Changes that make a module faster or smaller: another dtype, memory format, 8-bit integers, compilation."""

import atexit
import gc
import shutil
import tempfile
import warnings
from collections.abc import Collection

import torch
from torch import nn

from runner.config.model_kinds import ADAPTATIONS
from runner.config.options import Config
from runner.core.errors import ModelError, UsageError
from runner.host.environment import set_variable


def convert(model: nn.Module, config: Config) -> nn.Module:
    """Convert a CPU module's weights as the options say, before it is sent; its inputs must match them."""
    if config.dtype is not None:
        model = model.to(getattr(torch, config.dtype))
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def finish(model: nn.Module, config: Config) -> nn.Module:
    """Quantize and compile a module on its device, as the options say."""
    if config.quantize is not None:
        model = _quantize(model)
    if config.compile:
        # a folder of its own: what ranks and jobs compile at the same time must not mix
        folder = tempfile.mkdtemp(prefix="runner-compiled-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        set_variable("TORCHINDUCTOR_CACHE_DIR", folder)
        # one code for all numbers of rows: else it would depend on what this rank has seen before
        if type(model).compile is not nn.Module.compile:  # it knows which part of it is to be compiled
            model.compile(dynamic=True)
            return model
        compiled: nn.Module = torch.compile(model, dynamic=True)  # type: ignore[assignment]
        return compiled
    return model


def refuse_for_device(config: Config, device: torch.device) -> None:
    """Raise UsageError where options are set that work on the CPU only."""
    for name in ("quantize", "share_weights"):
        if getattr(config, name) and device.type != "cpu":
            raise UsageError(f"--{name.replace('_', '-')} works on the CPU alone: --device cpu")


def refuse_adaptations(config: Config, but: Collection[str] = ()) -> None:
    """Raise UsageError where options other than `but` are set that apply to an nn.Module only."""
    for name in ADAPTATIONS:
        if getattr(config, name) and name not in but:
            raise UsageError(
                f"--{name.replace('_', '-')} works on an nn.Module from a factory or a Hugging Face folder"
            )


def _quantize(model: nn.Module) -> nn.Module:
    """Convert linear and recurrent layers to 8-bit weights, one scale a layer, by PyTorch's dynamic quantization.

    torchao's takes three times as long on a CPU, uncompiled.
    """
    if not any(isinstance(module, nn.Linear | nn.LSTM | nn.GRU | nn.RNNCellBase) for module in model.modules()):
        raise ModelError("--quantize int8 finds nothing to do: the model has no torch.nn.Linear, LSTM or GRU in it")
    # the fast path of nn.TransformerEncoder takes the layers' weights out of them, where there are none any more
    torch.backends.mha.set_fastpath_enabled(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated: the version of PyTorch is pinned
        quantized: nn.Module = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            model, dtype=torch.qint8, inplace=True
        )
    gc.collect()  # layers that were replaced refer to themselves
    return quantized
