"""The kind of the model that --model names: a factory, a folder, or a file that holds a complete model."""

import os
from pathlib import Path

from runner.comm import Comm
from runner.config.model_kinds import FACTORY, MODEL_KINDS, PLUGIN, ModelKind
from runner.config.options import Config
from runner.config.paths import is_path
from runner.core.errors import ModelError, UsageError
from runner.core.imports import load_attribute
from runner.core.plugins import find_plugin
from runner.models.advice import refusal
from runner.models.formats import FOLDER, detect_format

_FETCHED = (".safetensors", ".bin", ".json", ".model")


def find_model_kind(config: Config, comm: Comm) -> ModelKind:
    """Return the kind of the model; every rank calls it, rank 0 alone reads.

    Raises:
        UsageError: --model names neither a factory nor a file, or other options do not go with the model.
        ModelError: the file is of another format, cannot be read, or can hold code that is not trusted. Both on every
            rank alike.
    """
    model = config.model
    if not is_path(model):
        return FACTORY
    return comm.on_root(lambda: _find_and_check(model, config))


def find_kind_of_path(path: str) -> ModelKind:
    """Return the kind of a model that is a file or a folder.

    Raises:
        UsageError: there is no such path, and it may be meant as a factory.
        ModelError: there is no such path, it cannot be read, or is no model.
    """
    try:
        name = _recognize_folder(path) if os.path.isdir(path) else detect_format(path)
    except FileNotFoundError as error:
        if "/" not in path and "." not in path:
            raise UsageError(
                f"--model {path!r} is not of the form package.module:name, such as my_model:build, and no file or "
                "folder has that name"
            ) from error
        raise ModelError(
            f"--model {path}: No such file or folder. Nothing is downloaded; a factory is named package.module:name"
        ) from error
    except OSError as error:
        raise ModelError(f"--model {path}: {error.strerror}") from error
    for kind in MODEL_KINDS:
        if kind.name == name:
            return kind
    if find_plugin("models", path):
        return PLUGIN
    raise refusal("--model", path, name)


def weight_files(path: str) -> list[Path]:
    """Return the files with the weights of a model that is a file or a folder; for errors see `find_kind_of_path`."""
    kind, place = find_kind_of_path(path), Path(path)
    own, folder = ([], place) if kind.is_folder else ([place], place.parent)
    return own + [file for pattern in kind.weights for file in folder.glob(pattern.format(name=place.name))]


def _find_and_check(model: str, config: Config) -> ModelKind:
    named = next((kind for kind in MODEL_KINDS if kind.suffixes and model.endswith(kind.suffixes)), None)
    if named and not os.path.isdir(model):
        _check_options(named, model, config)  # whatever is in it
    kind = find_kind_of_path(model)
    _check_options(kind, model, config)
    if kind.runs_code and not config.trust_pickle:
        raise ModelError(
            f"--model {model} is {kind.what}: a program, which can do more than compute, such as write files. If you "
            "trust its author, allow it with --trust-pickle"
        )
    return kind


def _recognize_folder(path: str) -> str:
    """Return the name of the kind of a folder; of its format where it is no model.

    Raises:
        ModelError: large files in it are only pointers, as after a clone without them; or it is damaged.
    """
    folder_format = detect_format(path)
    if folder_format == FOLDER:
        _check_fetched(Path(path))
    for kind in MODEL_KINDS:
        if kind.is_folder and (
            load_attribute(kind.recognizer, "--model")(path) if kind.recognizer else folder_format == FOLDER
        ):
            return kind.name
    return folder_format


def _check_fetched(folder: Path) -> None:
    """Raise ModelError where large files of a folder are only pointers."""
    for path in sorted(folder.iterdir()):
        if path.suffix in _FETCHED and path.is_file() and (kind := detect_format(str(path))) in ("lfs", "annex"):
            raise refusal("--model", str(path), kind)


def _check_options(kind: ModelKind, model: str, config: Config) -> None:
    """Raise UsageError where an option does not go with this kind of model."""
    if config.model_args and not kind.takes_arguments:
        raise UsageError(f"--model-args belongs to a factory; {model} is a complete model")
    if kind.is_divisible:
        return
    if config.offload is not None:
        raise UsageError(
            f"--offload cannot split the layers of {model}; it is for an nn.Module of a factory and for folders of "
            "Transformers"
        )
    if config.model_parallel > 1:
        raise UsageError(
            f"--model-parallel cannot split {model}, whose layers are not accessible. It splits an nn.Module of a "
            "factory (with --parallel-plan) and folders of Transformers"
        )
