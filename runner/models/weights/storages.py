"""The memory of a module: its distinct storages, in an order that is the same on every rank.

Storages instead of tensors: tied weights share one, and as bytes they represent any dtype and memory format.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import xxhash
from torch import nn


def named_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor of a module: parameters, buffers (persistent or not) and tensors that are plain attributes."""
    for module_name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
                yield f"{module_name}.{name}", tensor
            continue
        for attribute, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                yield f"{module_name}.{attribute}", value
                continue
            items = value.items() if isinstance(value, dict) else enumerate(value) if _is_list(value) else ()
            for key, item in items:
                if isinstance(item, torch.Tensor):
                    yield f"{module_name}.{attribute}.{key}", item


def storages(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Return each distinct non-empty storage of a module, with the name of the first tensor in it.

    Returns:
        (name, bytes) pairs, where bytes is the complete storage as a 1-D uint8 tensor that shares its memory.
    """
    by_address: dict[int, tuple[str, torch.Tensor]] = {}
    for name, tensor in named_tensors(model):
        storage = tensor.untyped_storage()
        if storage.nbytes() and storage.data_ptr() not in by_address:
            raw = torch.empty(0, dtype=torch.uint8, device=storage.device)
            by_address[storage.data_ptr()] = name, raw.set_(storage, 0, (storage.nbytes(),), (1,))
    return list(by_address.values())


def layout(model: nn.Module) -> list[tuple[str, int]]:
    """Return the storages' names and sizes in bytes: modules of equal layout can be copied storage by storage."""
    return [(name, len(raw)) for name, raw in storages(model)]


def digest(model: Any, more: Iterable[torch.Tensor] = ()) -> str:
    """Return a checksum (XXH3, 128 bits) of every storage of a CPU module with its name, and of further bytes.

    Args:
        model: the module; for any other object only `more` counts.
        more: further bytes, 1-D uint8 on any device.
    """
    state = xxhash.xxh3_128()
    for name, raw in storages(model) if isinstance(model, nn.Module) else ():
        state.update(name.encode())
        state.update(raw.numpy())
    for raw in more:
        state.update(raw.cpu().numpy())
    return f"xxh3:{state.hexdigest()}"


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)
