"""`hvd-runner inspect MODEL`: a description of a model, without a job."""

import inspect
from collections import Counter
from typing import Any

import torch
from torch import nn

from runner.comm.single import SingleComm
from runner.config.options import Config
from runner.core.imports import name_of
from runner.core.text import plural
from runner.host.launch import detect_launch
from runner.models import build_model
from runner.models.signatures import signature_of
from runner.models.weights.storages import storages

# types of the first layer with weights: the attribute with the width of its input, and the input's shape
_WIDTHS = {
    nn.Linear: ("in_features", "(batch, ..., {}) floating point"),
    nn.Conv1d: ("in_channels", "(batch, {}, length) floating point"),
    nn.Conv2d: ("in_channels", "(batch, {}, height, width) floating point"),
    nn.Conv3d: ("in_channels", "(batch, {}, depth, height, width) floating point"),
    nn.Embedding: ("num_embeddings", "(batch, length) integers below {}"),
    nn.LSTM: ("input_size", "(batch, length, {}) floating point"),
    nn.GRU: ("input_size", "(batch, length, {}) floating point"),
}


def inspect_model(config: Config) -> str:
    """Describe a model in a few lines.

    Raises:
        ModelError, UsageError: it cannot be loaded; the same errors as in a job.
    """
    model, digest = build_model(config, SingleComm(detect_launch().launcher), torch.device("cpu"))
    module = getattr(model, "inspected_module", model)
    facts = {"model": name_of(config.model), "kind": _kind(module), **_contents(module), "input": _expects(module)}
    facts |= model.inspected_facts() if hasattr(model, "inspected_facts") else {}
    signature = signature_of(model)
    if signature.inputs:
        facts["called"] = str(signature)
    if batch := signature.describe_limits():
        facts["batch"] = batch
    return "\n".join(f"{name:8} {text}" for name, text in (facts | {"weights": digest}).items())


def _kind(model: Any) -> str:
    if isinstance(model, torch.jit.ScriptModule):
        return f"TorchScript, {model.original_name}"
    if isinstance(model, torch.fx.GraphModule):
        return "a program of torch.export"
    return f"nn.Module, {type(model).__qualname__}" if isinstance(model, nn.Module) else f"callable, {name_of(model)}"


def _contents(model: Any) -> dict[str, str]:
    if not isinstance(model, nn.Module):
        return {}
    parameters, buffers = list(model.parameters()), list(model.buffers())
    dtypes: Counter[str] = Counter()
    for tensor in [*parameters, *buffers]:
        dtypes[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    if isinstance(model, torch.jit.ScriptModule):
        held = sum(tensor.untyped_storage().nbytes() for tensor in [*parameters, *buffers])
    else:
        held = sum(len(raw) for _, raw in storages(model))
    return {
        "holds": f"{plural(sum(p.numel() for p in parameters), 'parameter')} in {plural(len(parameters), 'tensor')}, "
        f"{sum(b.numel() for b in buffers):,} other numbers in {len(buffers)}",
        "dtypes": f"{', '.join(f'{dtype} ({count:,})' for dtype, count in dtypes.most_common())}",
        "memory": f"{held:,} bytes",
    }


def _expects(model: Any) -> str:
    """Describe the inputs of a model, as far as they are known."""
    if isinstance(model, torch.jit.ScriptModule):
        return str(model.forward.schema)  # type: ignore[attr-defined]
    if isinstance(model, nn.Module) and not isinstance(model, torch.fx.GraphModule):
        for layer in model.modules():
            for kind, (attribute, shape) in _WIDTHS.items():
                if isinstance(layer, kind):
                    return (
                        f"{_signature(model.forward)}; its first layer takes {shape.format(getattr(layer, attribute))}"
                    )
    return _signature(model.forward if isinstance(model, nn.Module) else model)


def _signature(function: Any) -> str:
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):
        return "unknown"
