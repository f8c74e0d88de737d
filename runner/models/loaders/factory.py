"""Models built by a function or class of the user: an `nn.Module` with or without a state dict, or any callable.

The model that rank 0 builds is sent to the other ranks. A factory that asks for its weights itself is called on each
rank, with the file that rank 0 has read.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from runner.comm import Comm
from runner.config.options import Config
from runner.core.errors import ModelError, RunnerError, UsageError, describe
from runner.core.imports import load_attribute, name_of
from runner.core.nearest import nearest_name
from runner.core.tracebacks import traceback_of
from runner.host.launch import warn
from runner.models.weights.adapt import convert, refuse_adaptations
from runner.models.weights.broadcast import in_evaluation_mode, spread
from runner.models.weights.files import broadcast_file
from runner.models.weights.state_dict import WeightsFile, load_weights, note_ignored, note_initial

_OWN_SEEDS = 1 << 32  # the seeds that PyTorch chooses have 53 bits; people choose smaller ones


def build_from_factory(config: Config, comm: Comm, device: torch.device) -> tuple[Callable[..., Any], str]:
    """Return the model on `device`, in evaluation mode, and the digest of its weights.

    Raises:
        ModelError: the model cannot be built; on every rank alike.
    """
    factory = comm.on_each(lambda: Factory(config, device))
    if not factory.wants_weights:
        model, digest = spread(comm, config, factory.name, factory.read, factory.call, device, has_effects=True)
        warn(comm.world, factory.untrained)
        return model, comm.bcast(note_initial(note_ignored(digest, factory.ignored), factory.untrained))
    comm.on_each(lambda: refuse_adaptations(config))
    assert config.weights_path is not None
    file, weights_digest = broadcast_file(comm, config.weights_path, "--weights")

    def build() -> Any:
        try:
            with open(file.name, "rb") as weights:
                model = factory.call(weights=weights)
            return in_evaluation_mode(model).to(device) if isinstance(model, nn.Module) else model
        finally:
            file.close()

    return comm.on_each(build), weights_digest


class Factory:
    """The function or class of the user that builds the model.

    Of the parameters without a default, it gets `device` (a torch.device) and `weights` (the --weights file, opened
    for reading bytes) where it has parameters of these names.

    Attributes:
        name: name of the factory, for messages.
        wants_weights: whether it reads the --weights file itself.
        ignored: the tensors of that file that were ignored when it was read.
        untrained: a warning, once the model is read, if its weights are random numbers; else empty.

    Raises:
        ModelError: it cannot be found or called.
    """

    ignored: list[str]
    untrained = ""

    def __init__(self, config: Config, device: torch.device) -> None:
        function = load_attribute(config.model, "--model") if isinstance(config.model, str) else config.model
        if not callable(function):
            raise ModelError(f"--model {config.model!r} is a {type(function).__name__}, not a function or class")
        self._function = function
        self._config = config
        self.ignored = []
        self.name = f"--model {name_of(config.model)}"
        parameters = _parameters(function)
        if parameters is not None:
            self._check_arguments(parameters)
        required = _required(parameters or ()) - config.model_args.keys()
        self.wants_weights = "weights" in required
        if self.wants_weights and config.weights_path is None:
            raise ModelError(f"{self.name} needs weights: give --weights PATH")
        if self.wants_weights:
            self._refuse_reading()
        self._arguments = {"device": device} if "device" in required else {}
        if absent := sorted(required - {"weights", "device"}):
            raise UsageError(
                f"{self.name} needs the arguments {', '.join(absent)}: give --model-args '{{\"{absent[0]}\": ...}}'"
            )

    def _check_arguments(self, parameters: Sequence[inspect.Parameter]) -> None:
        """Raise UsageError where --model-args names a parameter that the factory does not have."""
        known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if any(p.kind == p.VAR_KEYWORD for p in parameters):
            return
        for name in self._config.model_args:
            if name not in known:
                near = nearest_name(name, known)
                meant = f", {near!r} is the nearest" if near else ""
                raise UsageError(
                    f"--model-args: {self.name} has no parameter {name!r}{meant}. "
                    + (f"It has {', '.join(known)}" if known else "It has none")
                )

    def _refuse_reading(self) -> None:
        """Raise UsageError where options say how to read weights that the factory reads itself."""
        for name in ("weights_key", "strip_prefix", "ignore_keys"):
            if getattr(self._config, name):
                raise UsageError(
                    f"--{name.replace('_', '-')} does not apply: {self.name} reads --weights itself, through its "
                    "parameter `weights`"
                )

    def call(self, **more: Any) -> Any:
        """Call the factory and return its result, which can be called with a batch."""
        try:
            model = self._function(**self._config.model_args, **self._arguments, **more)
        except Exception as error:
            raise ModelError(f"{self.name} raised {describe(error)}", details=traceback_of(error)) from error
        if not callable(model):
            raise ModelError(
                f"{self.name} returned a {type(model).__name__}, not a torch.nn.Module or another callable"
            )
        return model

    def call_for_values(self) -> Any:
        """Call the factory for a model whose own values may count, and note whether they are random; on rank 0."""
        draws = _draws()
        model = self.call()
        if self._config.weights is None and isinstance(model, nn.Module) and _are_random(draws, model):
            self.untrained = (
                f"no --weights: the values of {self.name} are random numbers that its factory has drawn, so no two "
                "jobs give the same predictions. If they are meant, or if the factory loads weights by itself, give "
                "--weights none"
            )
        return model

    def read(self) -> Any:
        """Return the model with its weights, for rank 0."""
        weights = self._config.weights_path
        model = self.call_for_values()
        if isinstance(model, nn.Module):
            model = self._prepare(model)
        elif weights is not None:
            raise ModelError(
                f"--weights {weights}: {self.name} returned no torch.nn.Module to load them into. A parameter named "
                "`weights` would get the open file"
            )
        return model

    def _prepare(self, model: nn.Module) -> nn.Module:
        """Return the module on the CPU with its weights, in its final dtype: weights are rounded at most once."""
        try:
            model = convert(model.cpu(), self._config)
            if self._config.weights_path is not None:
                self.ignored = load_weights(model, WeightsFile.of(self._config))
            return model
        except RunnerError:
            raise
        except Exception as error:
            raise ModelError(f"{self.name}: its module raised {describe(error)}", traceback_of(error)) from error


def _draws() -> tuple[int, torch.Tensor]:
    """Return the seed and the state of PyTorch's random numbers."""
    return torch.initial_seed(), torch.get_rng_state()


def _are_random(before: tuple[int, torch.Tensor], model: nn.Module) -> bool:
    """Return whether a model has parameters, and random numbers were drawn for it that nobody has seeded."""
    seed, state = _draws()
    is_seeded = seed != before[0] or seed < _OWN_SEEDS  # by the factory, or earlier in this process
    has_drawn = not is_seeded and not torch.equal(state, before[1])
    return has_drawn and next(model.parameters(), None) is not None


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Return the parameters of a function or class; None where it does not expose them, as some built-in ones."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None


def _required(parameters: Sequence[inspect.Parameter]) -> set[str]:
    return {p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
