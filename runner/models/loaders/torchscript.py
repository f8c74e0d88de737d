"""TorchScript files, as `torch.jit.save` writes them."""

import warnings
import zipfile
from typing import Any

import torch

from runner.comm import Comm
from runner.config.options import Config
from runner.core.errors import ModelError
from runner.models.weights.files import build_from_file


def build_from_torchscript(config: Config, comm: Comm, device: torch.device) -> tuple[Any, str]:
    """Return the module on `device`, and the digest of its file; for errors see `build_from_file`."""
    return build_from_file(_load, config, comm, device)


def _load(path: str, device: torch.device, config: Config) -> Any:
    """Return the module, in evaluation mode. It is interpreted; no Python code in it is run.

    Raises:
        ModelError: the file is not a TorchScript file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            is_script = any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        is_script = False
    if not is_script:
        raise ModelError(
            "is not a TorchScript file, or it is damaged. A state dict needs --model package.module:factory --weights "
            "PATH"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's own, which recommends torch.export
        return torch.jit.load(path, map_location=device).eval()  # type: ignore[no-untyped-call]
