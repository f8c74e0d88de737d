"""Modules without memory for their parameters, which are on PyTorch's `meta` device; buffers are real."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Modules that are made inside keep no memory for their parameters; buffers are as they are made."""
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
    """What `build` makes, without memory for parameters, and whether it has drawn random numbers.

    Where it has, buffers may be others than those of a module that draws its parameters, too.
    """
    with parameters_on_meta(), torch.random.fork_rng(devices=[]):
        before = torch.random.manual_seed(0).get_state()
        model = build()
        return model, not torch.equal(before, torch.get_rng_state())


def tied_parameters(model: nn.Module) -> dict[str, str]:
    """Names of parameters that are also another's, by which they are known."""
    first: dict[int, str] = {}
    tied = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owner = first.setdefault(id(parameter), name)
        if owner != name:
            tied[name] = owner
    return tied
