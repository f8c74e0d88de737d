"""The memory a module is made of: its distinct storages, in an order that is the same on every rank.

Storages, not tensors: tied weights are one, and as bytes they carry any dtype and memory format.
"""

from collections.abc import Iterator

import torch
import xxhash
from torch import nn

_ALIGNMENT = 64  # bytes, of all that PyTorch allocates on the CPU


def named_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor a module holds: parameters, buffers (persistent or not) and tensors that are plain attributes."""
    for module_name, module in model.named_modules():
        for attribute, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                yield f"{module_name}.{attribute}", value
                continue
            items = value.items() if isinstance(value, dict) else enumerate(value) if _is_list(value) else ()
            for key, item in items:
                if isinstance(item, torch.Tensor):
                    yield f"{module_name}.{attribute}.{key}", item


def storages(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Each distinct non-empty storage of a module, with the name of the first tensor in it.

    Returns:
        (name, bytes) pairs, where bytes is the whole storage as a 1-D uint8 tensor that shares its memory.
    """
    found: dict[int, tuple[str, torch.Tensor]] = {}
    for name, tensor in named_tensors(model):
        storage = tensor.untyped_storage()
        if storage.nbytes() and storage.data_ptr() not in found:
            raw = torch.empty(0, dtype=torch.uint8, device=storage.device)
            found[storage.data_ptr()] = name, raw.set_(storage, 0, (storage.nbytes(),), (1,))
    return list(found.values())


def layout(model: nn.Module) -> list[tuple[str, int]]:
    """The names and bytes of the storages: two modules of one layout can be copied storage by storage."""
    return [(name, len(raw)) for name, raw in storages(model)]


def digest(model: nn.Module) -> str:
    """A checksum (XXH3, 128 bits) of every storage of a CPU module and its name."""
    state = xxhash.xxh3_128()
    for name, raw in storages(model):
        state.update(name.encode())
        state.update(raw.numpy())
    return f"xxh3:{state.hexdigest()}"


def align_storages(model: nn.Module) -> None:
    """Copy each storage of a CPU module that begins where PyTorch's own never do, as those of mapped files.

    Kernels add numbers in another order where the address of a weight is odd: a rank that has read a file would give
    other last bits than one that has received what was in it.
    """
    moved: dict[int, torch.UntypedStorage] = {}
    for _, tensor in named_tensors(model):
        storage = tensor.untyped_storage()
        if storage.data_ptr() % _ALIGNMENT:
            if storage.data_ptr() not in moved:
                moved[storage.data_ptr()] = storage.clone()  # type: ignore[no-untyped-call]
            empty, new = torch.empty(0, dtype=tensor.dtype), moved[storage.data_ptr()]
            tensor.data = empty.set_(new, tensor.storage_offset(), tensor.size(), tensor.stride())


def has_meta_tensors(model: nn.Module) -> bool:
    """Whether a tensor of the module has no memory yet."""
    return any(tensor.is_meta for _, tensor in named_tensors(model))


def to_empty_tied(model: nn.Module) -> nn.Module:
    """Give a module on the meta device memory on the CPU, uninitialised; tied tensors stay tied."""
    owners: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is not None:
                    owners.setdefault(id(tensor), []).append((module, name))
    tied = [places for places in owners.values() if len(places) > 1]
    # what `to_empty` does, whose `empty_like` first imports SymPy: half a second on every rank
    model._apply(lambda t: torch.empty_strided(t.size(), t.stride(), dtype=t.dtype, device="cpu"))  # type: ignore[no-untyped-call]
    for (first, first_name), *others in tied:
        for module, name in others:
            setattr(module, name, getattr(first, first_name))
    return model


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)
