"""Kinds of models that --model names: a factory, a folder, or a file that holds a complete model."""

import os
from pathlib import Path

from runner.comm import Comm
from runner.config.options import Config
from runner.config.paths import MODEL_SUFFIXES, is_path
from runner.core.errors import ModelError, UsageError
from runner.core.plugins import find_plugin
from runner.models.advice import refusal
from runner.models.formats import FOLDER, WHOLE_MODELS, detect_format

FACTORY, PLUGIN = "factory", "plug-in"
_FETCHED = (".safetensors", ".bin", ".json", ".model")


def find_model_kind(config: Config, comm: Comm) -> str:
    """Return `FACTORY`, `PLUGIN`, `FOLDER` or one of `WHOLE_MODELS`; every rank calls it, rank 0 alone reads.

    Raises:
        UsageError: --model names neither a factory nor a file, or other options do not go with a file.
        ModelError: the file is of another format, or cannot be read. Both on every rank alike.
    """
    model = config.model
    if not isinstance(model, str) or not is_path(model):
        return FACTORY
    return comm.on_root(lambda: _find_kind_of_path(model, config))


def _find_kind_of_path(model: str, config: Config) -> str:
    if model.endswith(MODEL_SUFFIXES) and not os.path.isdir(model):
        _check_options(model, config)  # whatever is in it
    try:
        kind = detect_format(model)
    except FileNotFoundError as error:
        if "/" not in model and "." not in model:
            raise UsageError(
                f"--model {model!r} is not of the form package.module:name, such as my_model:build, and no file or "
                "folder has that name"
            ) from error
        raise ModelError(
            f"--model {model}: No such file or folder. Nothing is downloaded; a factory is named package.module:name"
        ) from error
    except OSError as error:
        raise ModelError(f"--model {model}: {error.strerror}") from error
    if kind in WHOLE_MODELS:
        _check_options(model, config)
    elif kind == FOLDER:
        _check_fetched(Path(model))
    elif find_plugin("models", model):
        _check_undivided(model, config)
        return PLUGIN
    else:
        raise refusal("--model", model, kind)
    return kind


def _check_fetched(folder: Path) -> None:
    """Raise ModelError where large files of a folder are only pointers, as after a clone without them."""
    for path in sorted(folder.iterdir()):
        if path.suffix in _FETCHED and path.is_file() and (kind := detect_format(str(path))) in ("lfs", "annex"):
            raise refusal("--model", str(path), kind)


def _check_options(model: str, config: Config) -> None:
    """Raise UsageError where an option does not go with a file that holds a complete model."""
    if config.model_args:
        raise UsageError(f"--model-args belongs to a factory; {model} is a complete model")
    _check_undivided(model, config)


def _check_undivided(model: str, config: Config) -> None:
    """Raise UsageError where an option takes apart the layers of a model that is a file."""
    if config.offload is not None:
        raise UsageError(
            f"--offload cannot split the layers of {model}; it is for an nn.Module of a factory and for Hugging Face "
            "folders"
        )
    if config.model_parallel > 1:
        raise UsageError(
            f"--model-parallel cannot split {model}, whose layers are not accessible. It splits an nn.Module of a "
            "factory (with --parallel-plan) and Hugging Face folders"
        )
