"""Weights that stay in their safetensors files: mapped into memory, where the kernel reads them on use, caches as much
as fits, and evicts the rest.
"""

import os
from collections.abc import Iterator, Mapping, Sequence

import torch
import xxhash
from torch import nn

from runner.core.errors import RunnerError
from runner.models.weights.storages import named_tensors

_ALIGNMENT = 64  # bytes; PyTorch allocates with it, and libraries choose their order of addition by it


class StoredWeights(Mapping[str, torch.Tensor]):
    """The parameters of a module as it computes with them, made from the tensors of a file on each access.

    They have the dtype and strides of the module's own parameters. Where the module computes on the CPU, they are
    also aligned like allocated ones: the last bits of a matrix times a single row depend on the matrix's address.

    Args:
        model: the module; its parameters are on the meta device.
        tensors: the tensors of the file, by name; a tied parameter under each of its names.
        built_as: dtypes of the parameters before `--dtype`, to which values are rounded first.
        device: device on which the module computes.
    """

    def __init__(
        self,
        model: nn.Module,
        tensors: Mapping[str, torch.Tensor],
        built_as: Mapping[str, torch.dtype],
        device: torch.device,
    ) -> None:
        self._own = dict(model.named_parameters(remove_duplicate=False))
        self._tensors = tensors
        self._built_as = built_as
        self._is_on_cpu = device.type == "cpu"

    def __getitem__(self, name: str) -> torch.Tensor:
        own, tensor = self._own[name], self._tensors[name].to(self._built_as[name])
        is_aligned = not self._is_on_cpu or not tensor.data_ptr() % _ALIGNMENT
        if is_aligned and tensor.dtype == own.dtype and tensor.stride() == own.stride():
            return tensor
        return torch.empty_strided(own.size(), own.stride(), dtype=own.dtype).copy_(tensor)

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)


class WeightFiles:
    """The files with the weights, opened to detect later changes to them.

    Args:
        path: path of the weights, as the user gave it.
        files: paths of the files that hold the tensors.
    """

    def __init__(self, path: str, files: Sequence[str]) -> None:
        self._path = path
        self._files = [(file := os.open(name, os.O_RDONLY), _stamp(file)) for name in files]

    def check(self) -> None:
        """Raise RunnerError if a file has been written to since it was opened."""
        if any(_stamp(file) != stamp for file, stamp in self._files):
            raise RunnerError(
                f"{self._path} was modified while --offload disk read the weights from it. Do not modify it while the "
                "job runs; the same command resumes only with the original weights"
            )


def real_storages(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Return the distinct storages of a module that are not on the meta device, see `storages.storages`."""
    return [(name, _storage(tensor)) for name, tensor in _distinct(model) if not tensor.is_meta]


def digest(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> str:
    """Return the digest that `storages.digest` gives for the module with these weights as its parameters."""
    names = {id(parameter): name for name, parameter in model.named_parameters(remove_duplicate=False)}
    state = xxhash.xxh3_128()
    for name, tensor in _distinct(model):
        state.update(name.encode())
        state.update((_own_bytes(weights[names[id(tensor)]]) if tensor.is_meta else _storage(tensor)).numpy())
    return f"xxh3:{state.hexdigest()}"


def _distinct(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the first tensor of each storage, and its name."""
    seen = set()
    for name, tensor in named_tensors(model):
        storage = tensor.untyped_storage()
        key = id(tensor) if tensor.is_meta else storage.data_ptr()
        if storage.nbytes() and key not in seen:
            seen.add(key)
            yield name, tensor


def _storage(tensor: torch.Tensor) -> torch.Tensor:
    """Return the complete storage of a tensor, as bytes."""
    storage = tensor.untyped_storage()
    return torch.empty(0, dtype=torch.uint8).set_(storage, 0, (storage.nbytes(),), (1,))


def _own_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """Return the bytes of a tensor alone, whose storage may hold others."""
    return tensor.reshape(-1).view(torch.uint8) if tensor.is_contiguous() else _storage(tensor)


def _stamp(file: int) -> tuple[int, int]:
    status = os.fstat(file)
    return status.st_size, status.st_mtime_ns
