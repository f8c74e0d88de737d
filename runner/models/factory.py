"""Models that a function or class of the user's builds: an `nn.Module` with or without a state dict, or any callable.

What rank 0 gets of it is sent to the others. Where it asks for its weights itself, it is called on each rank, with the
file that rank 0 has read.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from runner.comm import Comm
from runner.config import Config
from runner.errors import ModelError, describe, traceback_of
from runner.imports import load_attribute, name_of
from runner.models.adapt import refuse_adaptations
from runner.models.files import broadcast_file
from runner.models.module import in_evaluation_mode, spread
from runner.models.weights import load_weights


def build_from_factory(config: Config, comm: Comm, device: torch.device) -> tuple[Callable[..., Any], str]:
    """The model on `device`, in evaluation mode, and the digest of its weights.

    Raises:
        ModelError: on every rank alike.
    """
    factory = comm.on_each(lambda: Factory(config, device))
    if not factory.wants_weights:
        return spread(comm, config, factory.name, factory.read, factory.call, device, has_effects=True)
    comm.on_each(lambda: refuse_adaptations(config))
    assert config.weights is not None
    file, weights_digest = broadcast_file(comm, config.weights, "--weights")

    def build() -> Any:
        try:
            with open(file.name, "rb") as weights:
                model = factory.call(weights=weights)
            return in_evaluation_mode(model).to(device) if isinstance(model, nn.Module) else model
        finally:
            file.close()

    return comm.on_each(build), weights_digest


class Factory:
    """The user's function or class.

    Of the parameters that have no default, it is given `device` (a torch.device) and `weights` (the --weights file,
    opened for reading bytes) where it has parameters of these names.

    Raises:
        ModelError: it cannot be found or called.
    """

    def __init__(self, config: Config, device: torch.device) -> None:
        function = load_attribute(config.model, "--model") if isinstance(config.model, str) else config.model
        if not callable(function):
            raise ModelError(f"--model {config.model!r} is a {type(function).__name__}, not a function or class")
        self._function, self._config = function, config
        self.name = f"--model {name_of(config.model)}"
        required = _required_parameters(function) - config.model_args.keys()
        self.wants_weights = "weights" in required
        if self.wants_weights and config.weights is None:
            raise ModelError(f"{self.name} wants weights: give --weights PATH")
        self._arguments = {"device": device} if "device" in required else {}

    def call(self, **more: Any) -> Any:
        """What it returns: something that can be called with a batch."""
        try:
            model = self._function(**self._config.model_args, **self._arguments, **more)
        except Exception as error:
            raise ModelError(f"{self.name} raised {describe(error)}", details=traceback_of(error)) from error
        if not callable(model):
            raise ModelError(
                f"{self.name} returned a {type(model).__name__}, not a torch.nn.Module or another callable"
            )
        return model

    def read(self) -> Any:
        """The model with its weights, for rank 0."""
        weights = self._config.weights
        model = self.call()
        if isinstance(model, nn.Module):
            model = model.cpu()
            if weights is not None:
                load_weights(model, weights, self._config.trust_pickle)
        elif weights is not None:
            raise ModelError(
                f"--weights {weights}: {self.name} returned no torch.nn.Module to load them into. A parameter named "
                "`weights` would get the open file"
            )
        return model


def _required_parameters(function: Callable[..., Any]) -> set[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of some built-in functions nothing is known
        return set()
    return {p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
