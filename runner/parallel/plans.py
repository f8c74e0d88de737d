"""Models that can be split over the ranks of a group, and their plans: a factory's module by the user's plan, a Hugging
Face folder by the plan of its model class.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel

from runner.comm import Comm
from runner.config.model_kinds import TRANSFORMERS
from runner.config.options import Config
from runner.core.errors import ModelError, UsageError, describe, shared
from runner.core.imports import load_attribute
from runner.core.tracebacks import traceback_of
from runner.models.kind import find_model_kind
from runner.models.loaders.factory import Factory
from runner.models.transformers.folder import SAFETENSORS, open_folder
from runner.models.weights.state_dict import WeightsFile, fitting_weights, own_tensors

Plan = Mapping[str, ParallelStyle]

_WHOLE_ALONE = ("compile", "share_weights")
_FOLDER_WEIGHTS = (*SAFETENSORS, "pytorch_model.bin")
# the styles named in plans of Transformers
_STYLES: dict[str, Callable[[], ParallelStyle]] = {
    "colwise": ColwiseParallel,
    "rowwise": RowwiseParallel,
    "colwise_gather_output": lambda: ColwiseParallel(output_layouts=Replicate()),
    "colwise_rep": lambda: ColwiseParallel(output_layouts=Replicate()),
    "rowwise_rep": lambda: RowwiseParallel(input_layouts=Replicate()),
    "rowwise_split_input": lambda: RowwiseParallel(input_layouts=Replicate()),
    "embedding_rowwise": lambda: RowwiseParallel(input_layouts=Replicate()),
}
_ON_EVERY_RANK = ("replicate", "replicated_with_grad_allreduce")  # layers that every rank holds completely


class Kind(ABC):
    """A kind of model that can be split; every rank makes one at the same point.

    Attributes:
        name: name of the model, for messages.
        ignored: the tensors of the --weights file that were ignored when it was read.
        untrained: a warning, on rank 0, if the weights are random numbers; else empty.
    """

    name: str
    ignored: Sequence[str] = ()
    untrained: str = ""

    @abstractmethod
    def build(self) -> nn.Module:
        """Build the module."""

    @abstractmethod
    def plan(self, model: nn.Module, size: int) -> Plan:
        """Return the styles by which the layers are split over `size` ranks."""

    @abstractmethod
    def read(self, own: Mapping[str, Any], place: Callable[[str], object]) -> dict[str, torch.Tensor]:
        """Read, on rank 0, the complete weights by name; for arguments see `fitting_weights`."""

    def wrap(self, model: nn.Module) -> Callable[..., Any]:
        """Wrap the module for calls with a batch."""
        return model


def find_kind(config: Config, comm: Comm, device: torch.device) -> Kind:
    """Return the kind of the model that --model names; every rank calls this.

    Raises:
        UsageError: it cannot be split, or does not go with the other options; on every rank alike.
        ModelError: it cannot be read; on every rank alike.
    """
    kind = find_model_kind(config, comm)
    comm.on_each(lambda: _refuse(config))
    return _Folder(config, comm) if kind == TRANSFORMERS else _Module(config, comm, device)


def _refuse(config: Config) -> None:
    if config.parallel_plan is not None and config.model_parallel == config.pipeline_stages:
        raise UsageError(
            "--parallel-plan splits layers over the ranks of a stage; --model-parallel and --pipeline-stages are "
            f"{config.pipeline_stages}, so each rank holds complete layers. Leave it out"
        )
    for name in _WHOLE_ALONE:
        if getattr(config, name):
            raise UsageError(f"--model-parallel and --{name.replace('_', '-')} cannot be combined")


class _Module(Kind):
    """A factory's module, split by --parallel-plan."""

    def __init__(self, config: Config, comm: Comm, device: torch.device) -> None:
        self._config = config
        if config.parallel_plan is None and config.model_parallel > config.pipeline_stages:
            raise shared(
                UsageError(
                    "--model-parallel needs --parallel-plan module:function, which says of a module how its layers "
                    "are split: a dict of torch.distributed.tensor.parallel styles by the name of the layer. Or, with "
                    f"--pipeline-stages {config.model_parallel}, each rank holds complete layers"
                )
            )
        self._factory = comm.on_each(lambda: Factory(config, device))
        self.name = self._factory.name

    def build(self) -> nn.Module:
        return self._checked(self._factory.call())

    def _checked(self, model: Any) -> nn.Module:
        if not isinstance(model, nn.Module):
            raise ModelError(f"{self.name} returned a {type(model).__name__}; --model-parallel splits nn.Modules")
        return model

    def plan(self, model: nn.Module, size: int) -> Plan:
        return call_plan(self._config, model)

    def read(self, own: Mapping[str, Any], place: Callable[[str], object]) -> dict[str, torch.Tensor]:
        if self._config.weights_path is None:
            tensors = own_tensors(self._checked(self._factory.call_for_values()))
            self.untrained = self._factory.untrained
            return tensors
        own_weights, self.ignored = fitting_weights(own, WeightsFile.of(self._config), place)
        return own_weights


class _Folder(Kind):
    """A Hugging Face folder, split by the plan of its class or by --parallel-plan."""

    def __init__(self, config: Config, comm: Comm) -> None:
        self._config = config
        self._folder = open_folder(config, comm)
        self.name = f"--model {config.model}"

    def build(self) -> nn.Module:
        return self._folder.build()

    def plan(self, model: nn.Module, size: int) -> Plan:
        if self._config.parallel_plan is not None:
            return call_plan(self._config, model)
        styles = getattr(model, "tp_plan", None) or {}
        if not styles:
            raise ModelError(
                f"{self.name}: Transformers brings no tensor-parallel plan for {type(model).__name__}; write one, and "
                "name it with --parallel-plan module:function"
            )
        for name in ("num_attention_heads", "num_key_value_heads"):
            for heads in _values_of(self._folder.settings, name):
                if heads % size:
                    raise ModelError(f"{self.name} has {heads} {name}, which cannot be split over {size} ranks")
        if unknown := sorted(set(styles.values()) - {*_STYLES, *_ON_EVERY_RANK}):
            raise ModelError(f"{self.name}: its plan uses {', '.join(unknown)}, which is not supported")
        return {name: _STYLES[style]() for name, style in styles.items() if style in _STYLES}

    def read(self, own: Mapping[str, Any], place: Callable[[str], object]) -> dict[str, torch.Tensor]:
        path = self._folder.find_weights(_FOLDER_WEIGHTS)
        if path is None:
            raise ModelError(f"{self.name} has no weights in it: {' or '.join(_FOLDER_WEIGHTS)}")
        try:
            return fitting_weights(own, WeightsFile(str(path), self._config.trust_pickle, rounds=True), place)[0]
        except ModelError:  # Transformers changes names or shapes of some models' tensors when it loads them
            return own_tensors(self._folder.load())

    def wrap(self, model: nn.Module) -> Callable[..., Any]:
        return self._folder.wrap(model)


def _values_of(settings: Any, name: str) -> list[int]:
    """Return the values of a setting that a model has: one, or one for each layer."""
    try:
        values = [getattr(settings, name, None)]
    except Exception:  # raised by Transformers where layers differ
        values = [getattr(layer, name, None) for layer in settings.per_layer_config]
    return [value for value in values if value is not None]


def call_plan(config: Config, model: nn.Module) -> Plan:
    """Return the plan of the user's --parallel-plan for a module."""
    function = config.parallel_plan
    if isinstance(function, str):
        function = load_attribute(function, "--parallel-plan")
    assert function is not None
    try:
        plan = function(model)
    except Exception as error:
        raise ModelError(f"--parallel-plan raised {describe(error)}", traceback_of(error)) from error
    if not isinstance(plan, Mapping) or not plan:
        raise ModelError(f"--parallel-plan returned a {type(plan).__name__}, not a dict of styles by name of layer")
    return plan
