"""Input signatures of models: from their `forward`, from TorchScript's schema, or noted by their loader."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from runner.calls.signature import Input, Signature

_ANYTHING = Signature(more_positional=True, more_named=True)
# a model of Transformers, whatever loads it: its inputs go by name, and one of them is the mask
_PRETRAINED = Signature((Input("attention_mask", is_required=False),), more_positional=True, more_named=True)
_SCALARS = ("int", "float", "bool", "str")


def signature_of(model: Callable[..., Any]) -> Signature:
    """Return the inputs of a model; a signature of anything where nothing is known of them."""
    noted = getattr(model, "signature", None)
    if isinstance(noted, Signature):
        return noted
    if hasattr(model, "tokenize_texts"):
        return _PRETRAINED
    if isinstance(model, torch.jit.ScriptModule):
        return _of_script(model)
    model = getattr(model, "_orig_mod", model)  # behind torch.compile
    is_module = isinstance(model, nn.Module)
    is_program = isinstance(model, torch.fx.GraphModule) and hasattr(model, "_in_spec")  # a result of torch.export
    try:
        parameters = list(
            inspect.signature(model.forward if isinstance(model, nn.Module) else model).parameters.values()
        )
    except (TypeError, ValueError):  # some built-in functions have no signature
        return _ANYTHING
    plain = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    by_position = [p for p in plain if p.kind != p.KEYWORD_ONLY]
    return Signature(
        tuple(
            Input(
                p.name,
                is_required=p.default is p.empty,
                by_keyword=p.kind == p.KEYWORD_ONLY or not (is_program or p.kind == p.POSITIONAL_ONLY),
            )
            for p in [*by_position, *(p for p in plain if p.kind == p.KEYWORD_ONLY)]
        ),
        len(by_position),
        more_positional=any(p.kind == p.VAR_POSITIONAL for p in parameters),
        more_named=any(p.kind == p.VAR_KEYWORD for p in parameters),
        takes_tensors=is_module,
    )


def _of_script(model: torch.jit.ScriptModule) -> Signature:
    arguments = model.forward.schema.arguments[1:]  # type: ignore[attr-defined]
    inputs = [
        Input(
            a.name,
            is_scalar=str(a.type) in _SCALARS,
            is_required=not a.has_default_value(),
            of_rows=str(a.type) not in _SCALARS,
        )
        for a in arguments
    ]
    positional = [value for value, argument in zip(inputs, arguments, strict=True) if not argument.kwarg_only]
    return Signature(tuple(inputs), len(positional))
