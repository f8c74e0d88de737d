"""Determination of a model's sizes without reading its weights.

The model is built as in a job that splits it, its parameters without memory, and split over a group of one rank; this
shows the dimension along which the plan splits each parameter.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import HashStore  # type: ignore[attr-defined]
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from runner.comm.single import SingleComm
from runner.commands.plan.room import bytes_on_disk
from runner.commands.plan.sizes import Sizes, Tensor
from runner.config.model_kinds import TRANSFORMERS
from runner.config.options import Config
from runner.core.errors import ModelError, RunnerError, UsageError
from runner.models.kind import find_model_kind
from runner.models.weights.adapt import convert
from runner.models.weights.meta import build_on_meta, tied_parameters
from runner.models.weights.state_dict import own_tensors
from runner.parallel.plans import Kind, find_kind
from runner.parallel.stages import cut_into_stages
from runner.parallel.tensor import split_dimension, split_module

SOME_SIZES = (1, 2, 4, 8, 16, 32, 64)  # of groups; models are designed to be split by these


def size_up(config: Config) -> Sizes:
    """Return the sizes of the model that --model names.

    Raises:
        UsageError, ModelError: it cannot be built; or cannot be split, where --model-parallel requires it.
    """
    model_kind = find_model_kind(config, SingleComm())
    is_folder = model_kind == TRANSFORMERS
    if not model_kind.is_divisible:
        whole = Tensor(str(config.model), (), "in its file", bytes_on_disk(config))
        why = f"the layers of {config.model} are not accessible"
        return Sizes([whole], why, no_stages=dict.fromkeys(SOME_SIZES[1:], why), is_one_file=True)
    is_split = config.model_parallel > config.pipeline_stages
    is_planned = is_folder or config.parallel_plan is not None
    asks = config.model_parallel == 1 and is_planned  # show the effect of the plan
    kind = _kind(dataclasses.replace(config, model_parallel=2) if asks else config)
    model, is_random = build_on_meta(kind.build)
    model = convert(model.eval(), config)
    tied = tied_parameters(model)
    token_bytes, max_tokens = _cache(model, config)
    root_copies = _root_copies(model, is_random, config.weights_path is None and not is_folder)
    held, no_stages = _stages(model, tied, config)

    no_plan = ""
    no_size = {}
    try:
        if not is_planned:
            raise UsageError("no --parallel-plan module:function says how its layers are split")
        no_size = _refused(kind, model, config)
        with _mesh_of_one() as mesh:
            cuts = _cuts(split_module(model, kind.plan(model, 1), mesh, lambda name: True))
    except RunnerError as error:
        if is_split:
            raise
        no_plan = error.message
        cuts = {}
    tensors = [
        Tensor(name, tuple(t.shape), str(t.dtype).removeprefix("torch."), t.nbytes, cuts.get(name), held.get(name, {}))
        for name, t in [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
        if name not in tied
    ]
    sizes = Sizes(tensors, no_plan, no_size, no_stages, token_bytes, max_tokens, root_copies)
    if refusal := sizes.refusal(config.model_parallel, config.pipeline_stages):
        raise ModelError(refusal)
    return sizes


def _kind(config: Config) -> Kind:
    return find_kind(config, SingleComm(), torch.device("cpu"))


def _refused(kind: Kind, model: nn.Module, config: Config) -> dict[int, str]:
    refused = {}
    for size in sorted({*SOME_SIZES, config.model_parallel // config.pipeline_stages} - {1}):
        try:
            kind.plan(model, size)
        except ModelError as error:
            refused[size] = error.message
    return refused


def _stages(
    model: nn.Module, tied: Mapping[str, str], config: Config
) -> tuple[dict[str, dict[int, frozenset[int]]], dict[int, str]]:
    """Return the stages that hold each parameter, by number of stages; and why other numbers are impossible."""
    held: dict[str, dict[int, frozenset[int]]] = {}
    refused = {}
    for count in sorted({*SOME_SIZES, config.pipeline_stages} - {1}):
        try:
            stages = cut_into_stages(model, count, config.split_points if count == config.pipeline_stages else ())
        except ModelError as error:
            refused[count] = error.message
            continue
        for name, _ in model.named_parameters(remove_duplicate=False):
            where = frozenset(stage for stage in range(count) if stages.holds(stage, name))
            by_count = held.setdefault(tied.get(name, name), {})
            by_count[count] = by_count.get(count, frozenset()) | where  # each stage has its own copy of tied ones
    return held, refused


@contextmanager
def _mesh_of_one() -> Iterator[DeviceMesh]:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        dist.destroy_process_group()


def _cuts(model: nn.Module) -> dict[str, int]:
    """Return the dimensions that are split, by name of parameter."""
    dimensions = {name: split_dimension(parameter) for name, parameter in model.named_parameters()}
    return {name: dim for name, dim in dimensions.items() if dim is not None}


def _root_copies(model: nn.Module, is_random: bool, brings_its_weights: bool) -> int:
    """Count rank 0's builds: one for weights that no file has, one for random buffers; see `runner.parallel.build`."""
    in_file = own_tensors(model)
    return brings_its_weights + (is_random and any(name not in in_file for name, _ in model.named_buffers()))


def _cache(model: Any, config: Config) -> tuple[int, int | None]:
    """Return the bytes of keys and values per token of a causal model that generates; and its most tokens, or None."""
    is_causal = hasattr(model, "can_generate") and model.can_generate() and not model.config.is_encoder_decoder
    if not is_causal or config.model_args.get("score"):
        return 0, None
    settings = model.config.get_text_config()
    layers, heads = (getattr(settings, name, 0) or 0 for name in ("num_hidden_layers", "num_attention_heads"))
    if not layers or not heads:  # another kind of model, which keeps another state
        return 0, None
    kept = getattr(settings, "num_key_value_heads", None) or heads
    width = getattr(settings, "head_dim", None) or settings.hidden_size // heads
    limit = getattr(settings, "max_position_embeddings", None)
    return layers * 2 * kept * width * model.dtype.itemsize, limit
