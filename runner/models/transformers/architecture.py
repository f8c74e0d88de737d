"""The Transformers class that runs a folder, its settings and its kind of output; independent of weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.core.errors import ModelError, UsageError, describe
from runner.core.imports import why_not_imported
from runner.core.tracebacks import traceback_of
from runner.models.transformers.heads_and_pooling import has_head

GENERATES = "generates"
HEAD = "head"
ENCODER = "encoder"
# files that identify other folders, and advice on them
_OTHER_FOLDERS = {
    "model.onnx": "it holds an ONNX model: give --model {folder}/model.onnx",
    "model_index.json": "it holds a pipeline of Diffusers, which is not run",
}


@dataclass(frozen=True)
class Architecture:
    """The class and settings that run a folder.

    Attributes:
        model_class: class of Transformers, or of code in the folder.
        settings: configuration of the model.
        role: GENERATES for a model that generates tokens, HEAD for one with another head, ENCODER for one without.
    """

    model_class: Any
    settings: Any
    role: str


def read_config(folder: Path, needs_architecture: bool) -> dict[str, Any]:
    """Return the contents of config.json.

    Args:
        folder: folder of the model.
        needs_architecture: whether it must name the class; False where the user names it.

    Raises:
        ModelError: the file is missing, damaged or incomplete.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
    except OSError as error:
        why = next((advice for file, advice in _OTHER_FOLDERS.items() if any(folder.glob(file))), "")
        why = why.replace("{folder}", str(folder)) or f"config.json: {error.strerror}"
        raise ModelError(f"--model {folder} is not a Hugging Face folder: {why}") from error
    except ValueError as error:
        raise ModelError(f"--model {folder}: config.json is damaged: {error}") from error
    if not isinstance(config, dict) or not config.get("model_type"):
        raise ModelError(f"--model {folder}: config.json names no architecture; save the model with save_pretrained")
    names = config.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError(f"--model {folder}: config.json: architectures must be a list of names, not {names!r}")
    if not isinstance(places := config.get("auto_map") or {}, dict):
        raise ModelError(f"--model {folder}: config.json: auto_map must be an object, not {places!r}")
    if needs_architecture and not names:
        raise ModelError(
            f"--model {folder}: config.json names no architecture; save the model with save_pretrained, or name its "
            'class: --model-args \'{"class": "AutoModel"}\''
        )
    return config


def find_architecture(
    transformers: Any, config: dict[str, Any], folder: Path, small: str, trust_code: bool, wanted: str | None
) -> Architecture:
    """Return the class that the user names, or else config.json; code in the folder runs only if it is trusted.

    Args:
        transformers: the library.
        config: contents of config.json.
        folder: folder of the model, for messages.
        small: folder with the files besides the weights.
        trust_code: whether code in the folder may run.
        wanted: name of a class, or of an Auto class, which stands for a task.

    Raises:
        UsageError, ModelError: there is no such class, it does not fit these settings, or cannot be run here.
    """
    name = wanted or config["architectures"][0]
    place = _own_code(config, name)
    if place and trust_code:
        model_class, settings = _load_own_code(transformers, place, folder, small)
    else:
        settings = _settings(transformers, config, folder, small, trust_code)
        model_class = _known_class(transformers, name, settings, folder, wanted is not None, bool(place))
        settings = _part_for(model_class, settings, folder)
    is_causal = _is_causal(transformers, model_class, config)
    is_both = bool(getattr(settings, "is_encoder_decoder", False))
    can_generate = is_causal or bool(getattr(model_class, "can_generate", bool)())
    from_text = can_generate and getattr(model_class, "main_input_name", "") == "input_ids"
    needs_more = can_generate or _needs_decoder_inputs(transformers, model_class, settings)
    if is_both and not is_causal and not from_text and needs_more:
        raise ModelError(f"--model {folder}: {_why_not_both(transformers, model_class, settings)}")
    role = GENERATES if can_generate else HEAD if has_head(model_class.__name__) else ENCODER
    return Architecture(model_class, settings, role)


def _own_code(config: dict[str, Any], name: str) -> str:
    """Return the place of the folder's own code for a class or an Auto class; empty where there is none."""
    places = config.get("auto_map") or {}
    own = [str(place) for task, place in places.items() if task == name or str(place).endswith(f".{name}")]
    return own[0] if own else ""


def _load_own_code(transformers: Any, place: str, folder: Path, small: str) -> tuple[Any, Any]:
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    try:
        settings = transformers.AutoConfig.from_pretrained(small, local_files_only=True, trust_remote_code=True)
        return get_class_from_dynamic_module(place, small, local_files_only=True), settings
    except Exception as error:
        raise ModelError(f"--model {folder}: its code failed: {describe(error)}", traceback_of(error)) from error


def _settings(transformers: Any, config: dict[str, Any], folder: Path, small: str, trust_code: bool) -> Any:
    try:
        is_own = trust_code and bool((config.get("auto_map") or {}).get("AutoConfig"))
        if is_own or config["model_type"] in transformers.models.auto.configuration_auto.CONFIG_MAPPING:
            return transformers.AutoConfig.from_pretrained(small, local_files_only=True, trust_remote_code=is_own)
    except Exception as error:
        raise ModelError(f"--model {folder}: config.json cannot be used: {why_not_imported(error)}") from error
    return None


def _known_class(transformers: Any, name: str, settings: Any, folder: Path, is_wanted: bool, has_own_code: bool) -> Any:
    """Return the class of Transformers of this name, or the class that an Auto class selects for these settings."""
    try:
        model_class: Any = getattr(transformers, name, None)
    except ImportError as error:
        raise ModelError(f"--model {folder}: Transformers cannot import {name}: {why_not_imported(error)}") from error
    if hasattr(model_class, "_model_mapping") and settings is not None:
        try:
            model_class = transformers.models.auto.auto_factory._get_model_class(settings, model_class._model_mapping)
        except KeyError as error:
            raise UsageError(
                f"--model-args: {name} has no class for {settings.model_type}, which --model {folder} is"
            ) from error
    if not hasattr(model_class, "from_pretrained") or settings is None:
        why = f"is not in Transformers {transformers.__version__}"
        if has_own_code:
            why = "is code in the folder, which is not run. If you trust its author, allow it with --trust-code"
        raise (
            UsageError(f"--model-args: class {name!r} {why}")
            if is_wanted and not has_own_code
            else ModelError(f"--model {folder}: {name} {why}")
        )
    if not issubclass(model_class, transformers.PreTrainedModel):
        if is_wanted:
            raise UsageError(f"--model-args: {name} is not a model of Transformers")
        raise ModelError(f"--model {folder}: config.json names {name}, which is not a model of Transformers")
    return model_class


def _part_for(model_class: Any, settings: Any, folder: Path) -> Any:
    """Return the settings that the class takes: all, or those of a part of the model, such as a tower of CLIP."""
    wanted = getattr(model_class, "config_class", None)
    if wanted is None or isinstance(settings, wanted):
        return settings
    for name in getattr(settings, "sub_configs", {}):
        if isinstance(part := getattr(settings, name, None), wanted):
            return part
    raise UsageError(
        f"--model-args: {model_class.__name__} is for {wanted.__name__}; --model {folder} has {type(settings).__name__}"
    )


def _is_causal(transformers: Any, model_class: Any, config: dict[str, Any]) -> bool:
    names = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    own = str((config.get("auto_map") or {}).get("AutoModelForCausalLM", ""))
    return model_class.__name__ in names or own.endswith(f".{model_class.__name__}")


def _encoder_of(transformers: Any, settings: Any) -> str | None:
    """Return the class of an encoder-decoder's encoder alone; None where there is none."""
    kind = type(settings).__name__.removesuffix("Config")
    return next((name for name in (f"{kind}EncoderModel", f"{kind}Encoder") if hasattr(transformers, name)), None)


def _needs_decoder_inputs(transformers: Any, model_class: Any, settings: Any) -> bool:
    """Return whether a class without a head needs decoder inputs, as classes do that also have an encoder class."""
    is_base_model = model_class.__name__ == f"{type(settings).__name__.removesuffix('Config')}Model"
    return is_base_model and _encoder_of(transformers, settings) is not None


def _why_not_both(transformers: Any, model_class: Any, settings: Any) -> str:
    why = f"{model_class.__name__} is an encoder-decoder, whose decoder is not run; "
    if encoder := _encoder_of(transformers, settings):
        return f'{why}its encoder alone gives embeddings: --model-args \'{{"class": "{encoder}"}}\''
    return f"{why}Transformers has no class for its encoder alone, as T5EncoderModel is one, which gives embeddings"
