"""Steps before and after the model: the named post-processings and the user's own functions."""

from collections.abc import Callable
from typing import Any

import torch

from runner.core.errors import ModelError
from runner.core.imports import load_attribute
from runner.data.tensors import RaggedTensor

Transform = Callable[[Any], Any]


def find_preprocess(spec: str | Transform | None) -> Transform | None:
    """Return the function from a batch of rows to the model's input; None leaves rows unchanged.

    Raises:
        ModelError: the function cannot be imported or called.
    """
    return _find_function(spec, "--preprocess")


def find_cost(spec: str | Transform | None) -> Transform:
    """Return the function from a batch of rows to the cost of each.

    Raises:
        ModelError: the function cannot be imported or called.
    """
    cost = _find_function(spec, "--batch-cost")
    assert cost is not None
    return cost


def find_postprocess(spec: str | Transform | None) -> Transform | None:
    """Return the function from the model's output to the predictions; None leaves the output unchanged.

    `argmax` gives int64 class indices, `softmax` probabilities in the output's dtype, `topk:K` the int64 indices of the
    K largest, best first. The classes are axis 1, as everywhere in PyTorch.

    Raises:
        ModelError: the function cannot be imported or called.
    """
    if spec == "argmax":
        return lambda output: _of_classes(output, "argmax", lambda scores: torch.argmax(scores, dim=1))
    if spec == "softmax":
        return lambda output: _of_classes(output, "softmax", lambda scores: torch.softmax(scores, dim=1))
    if isinstance(spec, str) and spec.startswith("topk:"):
        k = int(spec.removeprefix("topk:"))
        return lambda output: _of_classes(output, spec, lambda scores: _topk(scores, k))
    return _find_function(spec, "--postprocess")


def _find_function(spec: str | Transform | None, option: str) -> Transform | None:
    function = load_attribute(spec, option) if isinstance(spec, str) else spec
    if function is not None and not callable(function):
        raise ModelError(f"{option} {spec!r} is a {type(function).__name__}, not a function")
    transform: Transform | None = function
    return transform


def _of_classes(output: Any, name: str, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Apply a function to scores `(rows, classes, ...)`; if ragged, to the scores of each item of a row."""
    if isinstance(output, RaggedTensor):
        return RaggedTensor(_of_classes(output.values, name, function), output.lengths)
    if not isinstance(output, torch.Tensor) or output.ndim < 2:
        got = f"shape {tuple(output.shape)}" if isinstance(output, torch.Tensor) else f"a {type(output).__name__}"
        raise ModelError(f"--postprocess {name} needs an output of shape (rows, classes, ...); the model gave {got}")
    return function(output)


def _topk(output: torch.Tensor, k: int) -> torch.Tensor:
    if k > output.shape[1]:
        raise ModelError(f"--postprocess topk:{k} needs at least {k} classes; the model gave {output.shape[1]}")
    return torch.topk(output, k, dim=1).indices
