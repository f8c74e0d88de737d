"""Modules whose parameters are on PyTorch's `meta` device and take no memory; buffers are real."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Let modules built inside keep no memory for their parameters; buffers stay as they are built."""
    original: Callable[..., None] = nn.Module.register_parameter

    def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        original(module, name, parameter)
        if parameter is not None and not parameter.is_meta:
            module._parameters[name] = nn.Parameter(parameter.to("meta"), requires_grad=False)

    nn.Module.register_parameter = register  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = original  # type: ignore[method-assign]


def build_on_meta(build: Callable[[], Any]) -> tuple[Any, bool]:
    """Return the result of `build`, without memory for parameters, and whether it has drawn random numbers.

    If so, buffers may differ from those of a module that also draws its parameters.
    """
    with parameters_on_meta(), torch.random.fork_rng(devices=[]):
        before = torch.random.manual_seed(0).get_state()
        model = build()
        return model, not torch.equal(before, torch.get_rng_state())


def tied_parameters(model: nn.Module) -> dict[str, str]:
    """Return the names of parameters that are tied to an earlier one, each with the name of that one."""
    first: dict[int, str] = {}
    tied = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owner = first.setdefault(id(parameter), name)
        if owner != name:
            tied[name] = owner
    return tied
