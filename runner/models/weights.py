"""State dicts from files into a module; knows nothing of ranks."""

import json
import os
import pickle
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from runner.errors import ModelError, UsageError, describe

_INDEX_SUFFIX = ".safetensors.index.json"
_SUFFIXES = (".safetensors", ".pt", ".pth", _INDEX_SUFFIX)
# where training scripts and libraries put the state dict in their checkpoints
_USUAL_KEYS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights")
_MAX_NAMES = 6


def read_state_dict(path: str, trust_pickle: bool = False) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors of a file, on the CPU; they lie in its memory map where the format allows that.

    Args:
        path: `.safetensors`, `.pt`, `.pth`, or the `.safetensors.index.json` of several files.
        trust_pickle: run the code that a pickle may hold.

    Returns:
        (tensors, key): by name; and under which key of a checkpoint they were found, or "".

    Raises:
        UsageError: of another suffix.
        ModelError: there is no such file, it is damaged, or it holds no state dict.
    """
    if not path.endswith(_SUFFIXES):
        raise UsageError(f"--weights {path!r} must end in {' or '.join(_SUFFIXES)}")
    if not os.path.isfile(path):
        raise ModelError(f"--weights {path}: no such file")
    try:
        if path.endswith(_INDEX_SUFFIX):
            return _read_several(path), ""
        if path.endswith(".safetensors"):
            return _read_safetensors(path), ""
        return _find_state_dict(_unpickle(path, trust_pickle), path)
    except ModelError:
        raise
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"--weights {path} is not a plain state dict: {_why_not(error)}. Save it again with "
            "torch.save(model.state_dict(), PATH) or safetensors.torch.save_model(model, PATH); or, where you trust "
            "whoever made it, let its code run with --trust-pickle"
        ) from error
    except Exception as error:  # the libraries raise a dozen kinds for a damaged file
        raise ModelError(f"--weights {path} cannot be read: {describe(error)}") from error


def load_weights(model: nn.Module, path: str, trust_pickle: bool = False) -> None:
    """Copy a state dict file into a module; every tensor of the module must be in it, and nothing else.

    Prefixes that wrappers put before all names (`module.`, `_orig_mod.`) are dropped, with a word about it.

    Raises:
        UsageError, ModelError: the file cannot be used, or does not fit; the message names the tensors.
    """
    own = own_tensors(model)
    given = fitting_weights(own, path, trust_pickle, lambda name: own[name].data_ptr())
    model.load_state_dict(given, strict=False)


def own_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """What a state dict of the module holds."""
    return {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, torch.Tensor)}


def fitting_weights(
    own: Mapping[str, torch.Tensor], path: str, trust_pickle: bool, place: Callable[[str], object]
) -> dict[str, torch.Tensor]:
    """The tensors of a state dict file for a module that has `own` ones, by the module's names.

    Args:
        own: what a state dict of the module holds; only shapes count.
        path, trust_pickle: as `read_state_dict` has them.
        place: what two names have in common that are of one tensor: one of them in the file is enough.

    Raises:
        UsageError, ModelError: the file cannot be used, or does not fit; the message names the tensors.
    """
    found, key = read_state_dict(path, trust_pickle)
    given, prefix = _without_wrappers(found, own)
    covered = {place(name) for name in given.keys() & own.keys()}
    missing = [name for name in own if name not in given and place(name) not in covered]
    unexpected = [name for name in given if name not in own]
    reshaped = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own.keys() & given.keys()
        if given[name].shape != own[name].shape
    ]
    problems = [
        f"{what} {_names(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", sorted(reshaped)))
        if names
    ]
    if problems:
        raise ModelError(
            f"--weights {path} does not fit the model: {'; '.join(problems)}. "
            "Check --model-args, or that the weights are of this model"
        )
    done = [f"its entry {key!r} is taken"] * bool(key) + [f"{prefix!r} is dropped from the names"] * bool(prefix)
    if done:
        print(f"runner: --weights {path}: {' and '.join(done)}", file=sys.stderr, flush=True)
    return given


def _unpickle(path: str, trust_pickle: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=not trust_pickle, mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
        return torch.load(path, map_location="cpu", weights_only=not trust_pickle)  # of before PyTorch 1.6


def _find_state_dict(loaded: Any, path: str) -> tuple[dict[str, torch.Tensor], str]:
    """The state dict itself, or the one in a checkpoint."""
    if isinstance(loaded, nn.Module):
        return dict(loaded.state_dict()), ""
    if _is_state_dict(loaded):
        return dict(loaded), ""
    holds = f"a {type(loaded).__name__}"
    if isinstance(loaded, Mapping):
        entries = [key for key, value in loaded.items() if _is_state_dict(value) and value]
        usual = [key for key in entries if key in _USUAL_KEYS]
        if len(usual) == 1:
            return dict(loaded[usual[0]]), str(usual[0])
        holds = f"keys {_names(list(loaded))}"
        if entries:
            holds += f", of which {_names(entries)} could be meant"
    raise ModelError(
        f"--weights {path} holds {holds}; a state dict, names to tensors, is needed, or a checkpoint with one under "
        f"one of {', '.join(_USUAL_KEYS)}"
    )


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(tensor, torch.Tensor) for tensor in value.values())


def _read_safetensors(path: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return dict(load_file(path, device="cpu"))


def _read_several(path: str) -> dict[str, torch.Tensor]:
    """What an index of safetensors files names (the format of Hugging Face's sharded checkpoints)."""
    try:
        places: dict[str, str] = json.loads(Path(path).read_text())["weight_map"]
        files = sorted(set(places.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"--weights {path} is not an index of safetensors files: {describe(error)}") from error
    tensors: dict[str, torch.Tensor] = {}
    for name in files:
        file = Path(path).parent / name
        if not file.is_file():
            raise ModelError(f"--weights {path}: {file} is missing, which holds {_names(_in_file(places, name))}")
        try:
            tensors |= _read_safetensors(str(file))
        except Exception as error:
            raise ModelError(f"--weights {path}: {file} cannot be read: {describe(error)}") from error
    if absent := [name for name in places if name not in tensors]:
        raise ModelError(f"--weights {path} names tensors that its files do not hold: {_names(absent)}")
    return tensors


def _in_file(places: Mapping[str, str], file: str) -> list[str]:
    return [name for name, place in places.items() if place == file]


def _without_wrappers(
    given: dict[str, torch.Tensor], own: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], str]:
    """Names as the model has them, and what was dropped from them: the prefixes of torch.compile, DDP, Lightning."""
    dropped = ""
    if any("_orig_mod." in name for name in given) and not any("_orig_mod." in name for name in own):
        given, dropped = {name.replace("_orig_mod.", ""): tensor for name, tensor in given.items()}, "_orig_mod."
    stripped, prefixes = given, ""
    while not stripped.keys() & own.keys():
        prefix = next(iter(stripped), "").partition(".")[0] + "."
        if not stripped or not all(name.startswith(prefix) for name in stripped):
            return given, dropped
        stripped, prefixes = {name.removeprefix(prefix): t for name, t in stripped.items()}, prefixes + prefix
    return stripped, dropped + prefixes


def _why_not(error: Exception) -> str:
    """PyTorch's reason without its advice."""
    text = str(error)
    blocked = [line.strip() for line in text.splitlines() if "GLOBAL" in line or "Unsupported" in line]
    return (blocked or text.splitlines() or [describe(error)])[0]


def _names(names: Collection[object]) -> str:
    shown = ", ".join(str(name) for name in list(names)[:_MAX_NAMES])
    return f"{shown} and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else shown
