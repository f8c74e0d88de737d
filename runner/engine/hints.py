"""Advice for a model that has failed: the arguments it was called with, and a remedy."""

from typing import Any, TypeGuard

import torch
from torch import nn

from runner.calls.binding import Arguments
from runner.calls.signature import name_of_dtype
from runner.data.tensors import is_text


def find_hint(model: Any, inputs: Arguments, called_with: str) -> str:
    """Return the arguments of a failed call in words, and advice if they are text or not of the dtype of the weights.

    Args:
        model: the model.
        inputs, called_with: the arguments of the call; the same in words.
    """
    hint = f" It was called with {called_with}."
    values = [*inputs.positional, *inputs.named.values()]
    if any(is_text(value) for value in values):
        return f"{hint} It gets rows of text as a list of strings; a model that takes numbers needs --preprocess"
    if isinstance(model, torch.jit.ScriptModule):
        return f"{hint} A trace may be fixed to one batch size: use torch.export with a dynamic batch axis"
    module = model if isinstance(model, nn.Module) else getattr(model, "model", None)
    parameters = module.parameters() if isinstance(module, nn.Module) else ()
    wanted = next((p.dtype for p in parameters if p.is_floating_point()), None)
    value = next((value for value in values if _is_of_numbers(value)), None)
    if value is None or wanted is None or wanted == value.dtype:
        return hint
    advice = "convert it with --preprocess"
    if value.is_floating_point():
        advice = f"--dtype {name_of_dtype(wanted)}, or --preprocess, converts it"
    return f"{hint} The model's input is {value.dtype}, its weights are {wanted}: {advice}"


def _is_of_numbers(value: Any) -> TypeGuard[torch.Tensor]:
    """Return whether a value is a tensor of numbers; integers other than uint8 are not, as they may be indices."""
    return isinstance(value, torch.Tensor) and (value.is_floating_point() or value.dtype == torch.uint8)
