"""`python -m runner inspect MODEL`: a description of a model, without a job."""

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
from runner.models.images.timm import TimmModel
from runner.models.loaders.onnx import OnnxModel
from runner.models.sentences.model import Sentences
from runner.models.signatures import signature_of
from runner.models.transformers.pretrained import Pretrained
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
    lines = [f"model    {name_of(config.model)}"]
    if isinstance(model, OnnxModel):
        lines += ["kind     ONNX", f"input    {_onnx_values(model.inputs)}", f"output   {_onnx_values(model.outputs)}"]
    else:
        module = model.model if isinstance(model, Pretrained | TimmModel) else model
        lines += [f"kind     {_kind(module)}", *_contents(module), f"input    {_expects(module)}"]
    signature = signature_of(model)
    if signature.inputs:
        lines.append(f"called   {signature}")
    if batch := signature.describe_limits():
        lines.append(f"batch    {batch}")
    return "\n".join([*lines, f"weights  {digest}"])


def _kind(model: Any) -> str:
    if isinstance(model, torch.jit.ScriptModule):
        return f"TorchScript, {model.original_name}"
    if isinstance(model, torch.fx.GraphModule):
        return "a program of torch.export"
    if isinstance(model, Sentences):
        parts = ", ".join(type(module).__name__ for module in model.model)
        return f"{type(model.model).__name__} of sentence-transformers: {parts}"
    return f"nn.Module, {type(model).__qualname__}" if isinstance(model, nn.Module) else f"callable, {name_of(model)}"


def _contents(model: Any) -> list[str]:
    if not isinstance(model, nn.Module):
        return []
    parameters, buffers = list(model.parameters()), list(model.buffers())
    dtypes: Counter[str] = Counter()
    for tensor in [*parameters, *buffers]:
        dtypes[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    if isinstance(model, torch.jit.ScriptModule):
        held = sum(tensor.untyped_storage().nbytes() for tensor in [*parameters, *buffers])
    else:
        held = sum(len(raw) for _, raw in storages(model))
    return [
        f"holds    {plural(sum(p.numel() for p in parameters), 'parameter')} in {plural(len(parameters), 'tensor')}, "
        f"{sum(b.numel() for b in buffers):,} other numbers in {len(buffers)}",
        f"dtypes   {', '.join(f'{dtype} ({count:,})' for dtype, count in dtypes.most_common())}",
        f"memory   {held:,} bytes",
    ]


def _expects(model: Any) -> str:
    """Describe the inputs of a model, as far as they are known."""
    if isinstance(model, torch.jit.ScriptModule):
        return str(model.forward.schema)  # type: ignore[attr-defined]
    if isinstance(model, Sentences):
        return model.input_summary
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


def _onnx_values(values: list[Any]) -> str:
    return ", ".join(f"{value.name}: {value.type} {value.shape}" for value in values)
