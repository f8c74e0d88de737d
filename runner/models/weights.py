"""State dicts from files into a module; knows nothing of ranks."""

import os
import pickle
from collections.abc import Collection, Mapping

import torch
from torch import nn

from runner.errors import ModelError, describe

_MAX_NAMES = 6


def read_state_dict(path: str) -> dict[str, torch.Tensor]:
    """The tensors of a `.safetensors`, `.pt` or `.pth` file, on the CPU. Pickled code is never run.

    Raises:
        ModelError: there is no such file, it is damaged, or it is no state dict.
    """
    if not os.path.isfile(path):
        raise ModelError(f"--weights {path}: no such file")
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return dict(load_file(path, device="cpu"))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"--weights {path} is not a plain state dict ({reason}). Save it again with "
            "torch.save(model.state_dict(), PATH) or safetensors.torch.save_model(model, PATH)"
        ) from error
    except Exception as error:  # the two libraries raise a dozen kinds for a damaged file
        raise ModelError(f"--weights {path} cannot be read: {describe(error)}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        holds = f"keys {_names(list(state))}" if isinstance(state, Mapping) else f"a {type(state).__name__}"
        raise ModelError(f"--weights {path} holds {holds}; a state dict, names to tensors, is needed")
    return dict(state)


def load_weights(model: nn.Module, path: str) -> None:
    """Copy a state dict file into a module; every tensor of the module must be in it, and nothing else.

    Raises:
        ModelError: the file cannot be used, or does not fit; the message names the tensors.
    """
    given = read_state_dict(path)
    own = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, torch.Tensor)}
    covered = {own[name].data_ptr() for name in given.keys() & own.keys()}  # one name of a tied pair is enough
    missing = [name for name in own if name not in given and own[name].data_ptr() not in covered]
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
    model.load_state_dict(given, strict=False)


def _names(names: Collection[object]) -> str:
    shown = ", ".join(str(name) for name in list(names)[:_MAX_NAMES])
    return f"{shown} and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else shown
