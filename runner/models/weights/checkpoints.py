"""The state dict in a file of weights: safetensors, a file of torch.save, or an index of several of either; independent
of models.
"""

import json
import os
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from runner.core.errors import ModelError, describe
from runner.models.advice import refusal
from runner.models.formats import INDEX, SAFETENSORS, SAVED, detect_format
from runner.models.weights.entries import find_state_dict, list_names


@dataclass(frozen=True)
class StateDict:
    """Contents of a file of weights.

    Attributes:
        tensors: tensors by name, on the CPU; memory-mapped where the format allows that. Extra state of modules, under
            `..._extra_state`, may be any object.
        versions: versions of the modules by name, as PyTorch saves them with a state dict; empty where there are none.
        key: key of the checkpoint entry that holds them, or "".
    """

    tensors: dict[str, Any]
    versions: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""


def read_state_dict(path: str, trust_pickle: bool = False, key: str | None = None) -> StateDict:
    """Read a state dict from a file whose format is detected from its content.

    Args:
        path: path of the file.
        trust_pickle: whether to run code that a pickle may hold.
        key: entry of a checkpoint, as keys joined by dots; None for the usual one.

    Raises:
        ModelError: the file does not exist, is damaged, has another format, or holds no state dict.
    """
    format_name = weights_format(path)
    if format_name != SAVED and key is not None:
        raise ModelError(f"--weights-key {key}: {path} has no entries, only tensors. Leave it out")
    if format_name == INDEX:
        return StateDict(_read_several(path, trust_pickle))
    if format_name == SAFETENSORS:
        return StateDict(_read_safetensors(path))
    state, taken = find_state_dict(_unpickle(path, trust_pickle), path, key)
    return StateDict(dict(state), getattr(state, "_metadata", None) or {}, taken)


def weights_format(path: str) -> str:
    """Return the format of a file of weights: INDEX, SAFETENSORS or SAVED.

    Raises:
            ModelError: the file does not exist, or has another format.
    """
    try:
        format_name = detect_format(path)
    except FileNotFoundError as error:
        raise ModelError(f"--weights {path}: no such file") from error
    except OSError as error:
        raise ModelError(f"--weights {path}: {error.strerror}") from error
    if format_name not in (INDEX, SAFETENSORS, SAVED):
        raise refusal("--weights", path, format_name)
    return format_name


def files_of(path: str) -> list[str]:
    """Return the paths of the files that hold the tensors: those that an index names, or `path` alone.

    Raises:
            ModelError: see `weights_format`; or the index is damaged.
    """
    if weights_format(path) != INDEX:
        return [path]
    return [str(Path(path).parent / name) for name in sorted(set(_read_places(path).values()))]


def _unpickle(path: str, trust_pickle: bool) -> Any:
    """Load a file of torch.save.

    Raises:
            ModelError: the file is damaged, or needs code that is not trusted.
    """
    options: dict[str, Any] = {"map_location": "cpu", "weights_only": not trust_pickle}
    try:
        try:
            return torch.load(path, mmap=True, **options)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            return torch.load(path, **options)  # written before PyTorch 1.6
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"--weights {path} is not a plain state dict: {_why_not(error)}. Save it again with "
            "torch.save(model.state_dict(), PATH) or safetensors.torch.save_model(model, PATH); or, if you trust its "
            "author, let its code run with --trust-pickle"
        ) from error
    except Exception as error:  # the library raises a dozen types for a damaged file
        raise ModelError(f"--weights {path} cannot be read: {describe(error)}") from error


def _read_safetensors(path: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    try:
        return dict(load_file(path, device="cpu"))
    except Exception as error:
        raise ModelError(f"--weights {path} cannot be read: {_why_not_safetensors(path, error)}") from error


def _why_not_safetensors(path: str, error: Exception) -> str:
    """Return the library's reason, or a plainer one."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = file.read(length)
        tensors = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        size = os.path.getsize(path)
        needed = 8 + length + max(e["data_offsets"][1] for e in tensors.values())
    except Exception:
        size = os.path.getsize(path)
        needed = 8 + length
        return f"it is cut short: {size} bytes of at least {needed}" if size < needed else describe(error)
    if size < needed:
        return f"it is cut short: {size} bytes of {needed}"
    dtypes = [f"{name} is of dtype {entry['dtype']}" for name, entry in tensors.items() if entry["dtype"] in str(error)]
    return f"{list_names(dtypes)}, which PyTorch cannot hold" if dtypes and "variant" in str(error) else describe(error)


def _read_several(path: str, trust_pickle: bool) -> dict[str, Any]:
    """Read the files that an index names, the format in which libraries split a model over files."""
    places = _read_places(path)
    tensors: dict[str, Any] = {}
    for name in sorted(set(places.values())):
        file = Path(path).parent / name
        if not file.is_file():
            held = [tensor for tensor, place in places.items() if place == name]
            raise ModelError(f"--weights {path}: {file} is missing, which holds {list_names(held)}")
        tensors |= read_state_dict(str(file), trust_pickle).tensors
    if absent := [name for name in places if name not in tensors]:
        raise ModelError(f"--weights {path} names tensors that its files do not hold: {list_names(absent)}")
    return tensors


def _read_places(path: str) -> dict[str, str]:
    """Read an index: the file that holds each tensor, by name."""
    try:
        places: dict[str, str] = json.loads(Path(path).read_text())["weight_map"]
        if not all(isinstance(place, str) for place in places.values()):
            raise ValueError("a place is not the name of a file")
        return places
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"--weights {path} is not an index of files of weights: {describe(error)}") from error


def _why_not(error: Exception) -> str:
    """Return PyTorch's reason without its advice, which is for programs: what is in the file besides tensors."""
    text = str(error)
    if found := re.search(r"GLOBAL ([\w.]+)", text):
        return f"it holds objects of {found[1]}, and not only tensors"
    return (text.splitlines() or [describe(error)])[0].rstrip(".")
