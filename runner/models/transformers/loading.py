"""Loading of a folder's weights into a Transformers model, as `from_pretrained` does; rank 0 alone opens them."""

import importlib.util
import inspect
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from runner.config.options import Config
from runner.core.errors import ModelError, UsageError, describe
from runner.models.language.settings import drop_other_decoding
from runner.models.transformers.adapters import Adapter, apply_adapter, without_adapter
from runner.models.transformers.architecture import GENERATES, Architecture

LOGGER = logging.getLogger("runner")
# the module that Transformers imports for each kind of quantized weights; below, its package where the name differs
_QUANTIZERS = {
    "bitsandbytes": "bitsandbytes",
    "gptq": "gptqmodel",
    "awq": "gptqmodel",
    "compressed-tensors": "compressed_tensors",
    "torchao": "torchao",
    "hqq": "hqq",
    "quanto": "optimum.quanto",
    "quark": "quark",
}
_PACKAGES = {"optimum.quanto": "optimum-quanto", "compressed_tensors": "compressed-tensors", "quark": "amd-quark"}
_NO_TOKEN = -1
_MAX_NAMES = 4


def load_model(architecture: Architecture, folder: Path, adapter: Adapter | None, gguf: str | None) -> nn.Module:
    """Return the model with its weights and its adapter, on the CPU.

    Args:
        architecture: class and settings of the model.
        folder: folder with the weights.
        adapter: adapter to apply, or None.
        gguf: name of the .gguf file that holds the weights, or None.

    Raises:
        ModelError: the weights cannot be loaded, or some are missing.
    """
    model_class = architecture.model_class
    base = adapter.base if adapter else folder
    more = {"gguf_file": gguf} if gguf else {}
    try:
        with without_adapter(base) as plain:
            model, loading = model_class.from_pretrained(
                plain, dtype="auto", local_files_only=True, output_loading_info=True, **more
            )
    except Exception as error:
        raise ModelError(f"--model {base} cannot be loaded: {describe(error)}") from error
    model.config.name_or_path = str(base)
    brought = apply_adapter(model, adapter) if adapter else set()
    missing = set(loading["missing_keys"])
    if missing and lacks_pooler_alone(model_class, missing):
        remove_pooler(model)
        missing.clear()
    if lost := sorted(missing - brought):
        raise ModelError(
            f"--model {base} lacks weights of {model_class.__name__}: {_names(lost)}. It has not been trained for that"
        )
    _clear(model, missing)
    if unused := sorted(loading["unexpected_keys"]):
        LOGGER.info("%s does not use the weights %s in %s", model_class.__name__, _names(unused), base)
    complete(model, architecture)
    module: nn.Module = model
    return module


def complete(model: Any, architecture: Architecture) -> None:
    """Set the attributes of a model that batches of several rows need, and single rows do not."""
    if architecture.role == GENERATES:
        drop_other_decoding(model.generation_config)
    settings = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    if type(model).__name__.endswith("ForSequenceClassification") and getattr(settings, "pad_token_id", 0) is None:
        settings.pad_token_id = _NO_TOKEN  # without any, some refuse batches; then the last token is a row's last


def build_like(architecture: Architecture, dtype: torch.dtype | None, has_pooler: bool, generation: Any) -> nn.Module:
    """Build a model like that of `load_model`, but with arbitrary weights.

    Args:
        architecture: class and settings of the model.
        dtype: dtype of the weights; None for that of the settings.
        has_pooler: whether there are weights for a pooler.
        generation: generation settings of a model that generates.
    """
    more = {} if dtype is None else {"dtype": dtype}
    model = architecture.model_class._from_config(architecture.settings, **more)
    for name, wide in model._get_dtype_plan(model.dtype).items() if hasattr(model, "_get_dtype_plan") else ():
        for full, parameter in model.named_parameters():
            if name in full.split("."):
                parameter.data = parameter.data.to(wide)
    if not has_pooler:
        remove_pooler(model)
    if architecture.role == GENERATES:
        model.generation_config = generation
    complete(model, architecture)
    module: nn.Module = model
    return module


def stored_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of weights files by name, on the meta device, so without their values.

    Args:
        path: path of a weights file, or of the index of several.
    """
    import json

    from transformers.modeling_utils import load_state_dict

    files = [path.name]
    if path.name.endswith(".index.json"):
        files = sorted(set(json.loads(path.read_text())["weight_map"].values()))
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        tensors |= load_state_dict(str(path.parent / file), map_location="meta")
    return tensors


def dtype_of(stored: dict[str, torch.Tensor]) -> torch.dtype | None:
    """Return the dtype in which `from_pretrained` loads such weights where no configuration names one, or None."""
    return next((tensor.dtype for tensor in stored.values() if tensor.is_floating_point()), None)


def lacks_pooler_alone(model_class: Any, missing: Collection[str]) -> bool:
    """Return whether all missing weights belong to a pooler that the class can do without."""
    can_do_without = "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
    return can_do_without and all("pooler" in name.split(".") for name in missing)


def has_pooler_weights(stored: Collection[str]) -> bool:
    """Return whether there are weights of a pooler among these names."""
    return any("pooler" in name.split(".") for name in stored)


def remove_pooler(model: Any) -> None:
    """Remove the pooler of a model, whose weights are random: it then returns hidden states alone."""
    if getattr(model, "pooler", None) is not None:
        model.pooler = None


def refuse_quantized(config_json: dict[str, Any], config: Config) -> None:
    """Check that quantized weights of a folder can be loaded and go with the options.

    Args:
        config_json: contents of config.json.
        config: configuration of the job.

    Raises:
        UsageError: a library is missing, or an option does not go with quantized weights.
    """
    if not isinstance(settings := config_json.get("quantization_config"), dict):
        return
    method = str(settings.get("quant_method") or ("bitsandbytes" if "load_in_8bit" in settings else "unknown"))
    name = f"--model {config.model} is quantized ({method})"
    for option in ("offload", "dtype"):
        if getattr(config, option) is not None:
            raise UsageError(f"{name}, and --{option} cannot be combined with that")
    if config.model_parallel > 1:
        raise UsageError(f"{name}, and --model-parallel cannot be combined with that")
    module = _QUANTIZERS.get(method)
    if module and importlib.util.find_spec(module.partition(".")[0]) is None:
        raise UsageError(
            f"{name}, for which Transformers needs another library: pip install {_PACKAGES.get(module, module)}"
        )


def _clear(model: nn.Module, missing: Collection[str]) -> None:
    """Zero random weights that are not used, so that the same model always has the same digest."""
    tensors = model.state_dict()
    for name in missing:
        owner, _, leaf = name.rpartition(".")
        if (unused := tensors.get(f"{owner}.original_module.{leaf}")) is not None:
            unused.zero_()


def _names(names: list[str]) -> str:
    return f"{', '.join(names[:_MAX_NAMES])}{' and more' * (len(names) > _MAX_NAMES)}"
