"""Models that do not fit in the memory of their device (`--offload`): at each call their layers stream from the host's
memory to a GPU, or from files.
"""

import contextlib
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from runner.comm import Comm
from runner.config.options import Config
from runner.config.paths import is_path
from runner.core.errors import ModelError, RunnerError, UsageError
from runner.core.imports import import_extra, name_of
from runner.core.messages import tell
from runner.core.text import byte_size, duration
from runner.models.formats import SAFETENSORS as SAFETENSORS_FORMAT
from runner.models.loaders.factory import Factory, build_from_factory
from runner.models.offload.buffers import fill_buffers, send_buffers
from runner.models.offload.stored import StoredWeights, WeightFiles, digest
from runner.models.transformers.folder import SAFETENSORS, SAVED_OTHERWISE, build_from_folder, open_folder
from runner.models.transformers.pretrained import Pretrained
from runner.models.weights.adapt import convert
from runner.models.weights.checkpoints import files_of, weights_format
from runner.models.weights.files import compare_digests
from runner.models.weights.meta import tied_parameters
from runner.models.weights.sending import build_alike
from runner.models.weights.state_dict import WeightsFile, fitting_weights, note_ignored, own_state

_CPU = torch.device("cpu")


def build_offloaded(config: Config, comm: Comm, device: torch.device) -> tuple[Callable[..., Any], str]:
    """Return the model, computing on `device` with weights stored elsewhere, and the digest of the weights.

    The digest equals that of the same model without `--offload`; so do the predictions on one kind of device.

    Raises:
        UsageError: Accelerate is missing, or the model cannot be offloaded in this way.
        ModelError: the model cannot be built, or does not fit its weights; both on every rank alike.
    """
    comm.on_each(_import_accelerate)
    return (_from_memory if config.offload == "memory" else _from_disk)(config, comm, device)


def _import_accelerate() -> None:
    import_extra("accelerate", "--offload", "offload")


def _stream(model: nn.Module, weights: Mapping[str, torch.Tensor], device: torch.device) -> None:
    from runner.models.offload.streaming import stream

    stream(model, weights, device)


def _from_memory(config: Config, comm: Comm, device: torch.device) -> tuple[Callable[..., Any], str]:
    """Build the usual model on the CPU; its layers are copied to the GPU as they are called."""

    def refuse() -> None:
        if device.type == "cpu":
            raise UsageError(
                "--offload memory streams weights from the host's memory to a GPU; on the CPU they are in memory "
                "anyway. For a model larger than the memory use --offload disk"
            )

    comm.on_each(refuse)
    build = build_from_folder if is_path(config.model) else build_from_factory
    model, weights_digest = build(config, comm, _CPU)
    module: Any = model.model if isinstance(model, Pretrained) else model
    comm.on_each(lambda: _check_module(module, f"--model {name_of(config.model)}"))
    weights = {name: parameter.data for name, parameter in module.named_parameters(remove_duplicate=False)}
    began = time.perf_counter()
    comm.on_each(lambda: _copy_once(weights, device))
    _warn_of_speed(config, comm, weights, "the host's memory", time.perf_counter() - began)
    comm.on_each(lambda: _stream(module, weights, device))
    return model, weights_digest


def _from_disk(config: Config, comm: Comm, device: torch.device) -> tuple[Callable[..., Any], str]:
    """Build a model whose layers every rank reads from safetensors files.

    All ranks read them at every batch, so each maps the files into memory; the ranks of a host share the pages that are
    in memory. The first rank of each host reads the files once in advance, for the digest; the digests are compared.
    """
    source = _find(config, comm, device)
    model, is_random = build_alike(comm, source.build)
    comm.on_each(lambda: _check_module(model, source.name))
    model.eval()
    if not source.weights.rounds:  # else the file's values are first rounded to the dtypes of the folder
        comm.on_each(lambda: convert(model, config))
    built_as = {name: parameter.dtype for name, parameter in model.named_parameters(remove_duplicate=False)}
    tied = tied_parameters(model)
    files, tensors, ignored = comm.on_each(lambda: _map(source, model, tied, prints=not comm.world.rank))
    rebuild = source.build if is_random else None
    comm.on_each(lambda: fill_buffers(model, source.name, tensors, rebuild if not comm.world.rank else None))
    comm.on_each(lambda: convert(model, config))
    send_buffers(comm, model, source.name)
    weights = StoredWeights(model, tensors, built_as, device)
    began = time.perf_counter()
    own_digest = comm.on_each(lambda: "" if comm.world.local_rank else digest(model, weights))
    seconds = max(comm.gather_all(time.perf_counter() - began))
    weights_digest = comm.bcast(own_digest)
    compare_digests(comm, own_digest or weights_digest)
    _warn_of_speed(config, comm, {name: tensors[name] for name in weights}, source.weights.path, seconds)
    comm.on_each(lambda: _stream(model, weights, device))

    def check(*_: Any) -> None:
        try:
            files.check()
        except RunnerError as error:
            comm.abort(error)
            raise

    model.register_forward_hook(check)
    return source.wrap(model), note_ignored(weights_digest, ignored)


@dataclass(frozen=True)
class _ModelSource:
    """The model that --model names and its weights; `hint` ends the error on weights that do not fit it."""

    name: str
    weights: WeightsFile
    hint: str
    build: Callable[[], Any]
    wrap: Callable[[nn.Module], Callable[..., Any]]


def _find(config: Config, comm: Comm, device: torch.device) -> _ModelSource:
    if is_path(config.model):
        folder = open_folder(config, comm)
        name = f"--model {config.model}"

        def weights() -> str:
            path = folder.find_weights(SAFETENSORS)
            if path is None:
                raise ModelError(f"{name}: --offload disk finds no {' or '.join(SAFETENSORS)} in it")
            return str(path)

        file = WeightsFile(comm.on_each(weights), rounds=True)
        return _ModelSource(name, file, SAVED_OTHERWISE, folder.build, folder.wrap)
    factory = comm.on_each(lambda: Factory(config, device))

    def refuse() -> None:
        if factory.wants_weights:
            raise UsageError(f"{factory.name} reads its weights itself; --offload disk must read them layer by layer")

    comm.on_each(refuse)
    return _ModelSource(factory.name, WeightsFile.of(config), "", factory.call, lambda model: model)


def _check_module(model: Any, name: str) -> None:
    if not isinstance(model, nn.Module):
        raise ModelError(f"{name} gives a {type(model).__name__}; --offload is for nn.Modules")
    if not any(True for _ in model.parameters()):
        raise ModelError(f"{name} has no parameters; leave --offload out")


def _map(
    source: _ModelSource, model: nn.Module, tied: Mapping[str, str], prints: bool
) -> tuple[WeightFiles, dict[str, torch.Tensor], list[str]]:
    """Return the files, their tensors under all names that the model has for them, and the ignored names."""
    files = files_of(source.weights.path)
    if other := [path for path in files if weights_format(path) != SAFETENSORS_FORMAT]:
        raise UsageError(
            f"--offload disk reads safetensors, not {other[0]}; on a host that holds the model, "
            "safetensors.torch.save_model(model, PATH) writes it"
        )
    own = own_state(model)
    # each warning about a file is printed once
    with contextlib.nullcontext() if prints else contextlib.redirect_stderr(io.StringIO()):
        try:
            tensors, ignored = fitting_weights(own, source.weights, lambda name: tied.get(name, name))
        except ModelError as error:
            raise ModelError(f"{error}{source.hint}") from error
    owners = {tied.get(name, name): tensor for name, tensor in tensors.items()}
    return (
        WeightFiles(source.weights.path, files),
        owners | {name: owners[owner] for name, owner in tied.items()} | tensors,
        ignored,
    )


def _copy_once(weights: Mapping[str, torch.Tensor], device: torch.device) -> None:
    for tensor in weights.values():
        tensor.to(device)
    torch.cuda.synchronize(device)


def _warn_of_speed(config: Config, comm: Comm, weights: Mapping[str, torch.Tensor], where: str, seconds: float) -> None:
    """Warn on rank 0 how many bytes each call of the model reads, and how long that took just now."""
    if comm.world.rank:
        return
    size = sum({tensor.data_ptr(): tensor.nbytes for tensor in weights.values()}.values())
    calls = config.model_args.get("max_new_tokens", 1) if is_path(config.model) else 1
    each = "each batch" if calls == 1 else f"each batch, {calls} times (once per new token),"
    words = (
        f"runner: warning: --offload {config.offload}: {each} reads {byte_size(size)} of weights from {where}, which "
        f"took {duration(seconds)} now ({byte_size(size / seconds)}/s). A --batch-size larger than {config.batch_size} "
        "reads no more; with --model-parallel, ranks that hold the model together read nothing"
    )
    if calls * seconds > config.stall_timeout / 2:
        words += f". A batch may take longer than --stall-timeout {config.stall_timeout}"
    tell(words)
