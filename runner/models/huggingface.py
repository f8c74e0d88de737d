"""Folders as Hugging Face's `save_pretrained` leaves them: config.json and the weights, read by Transformers.

Rank 0 alone reads the folder, and sends what the others need of it. Rows of text go through its tokeniser. What comes
out depends on the architecture that config.json names: of one with a head
(`...ForSequenceClassification`, `...ForImageClassification`) its logits, for each token where they are of tokens; of
one without, the hidden states pooled to one vector a row; of a causal language model the tokens, or the text, that
greedy decoding adds, or how likely it holds a text.
"""

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from runner.comm import Comm
from runner.config import Config
from runner.errors import ModelError, UsageError, describe, traceback_of
from runner.models.files import broadcast_small_files
from runner.models.module import spread
from runner.models.pretrained import TOKENISER_FILES, Pretrained, Tokeniser
from runner.models.processor import PROCESSOR_FILES, open_processor
from runner.models.timm import is_timm_folder

_OPTIONS = ("pooling", "max_new_tokens", "max_length", "decode", "score")
_POOLING = ("mean", "cls", "last")
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
SAVED_OTHERWISE = (
    ". Transformers gives tensors of some models, such as ViT and mixtures of experts, other names and shapes when it "
    "loads them; here they are read as they are: save the loaded model anew, with save_pretrained(PATH, "
    "save_original_format=False)"
)


def build_from_folder(config: Config, comm: Comm, device: torch.device) -> tuple[Any, str]:
    """The model on `device`, ready to be called with token ids and mask or with whatever else it takes, and its digest.

    Raises:
        UsageError: Transformers is missing, or `model_args` hold what cannot be.
        ModelError: the folder cannot be used.
    """
    found = open_folder(config, comm)

    def read() -> nn.Module:
        return _read(found.architecture, found.path)

    model, digest = spread(comm, config, f"--model {found.path}", read, found.build, device)
    return found.wrap(model), digest


@dataclass(frozen=True)
class Folder:
    """What a folder holds beside weights.

    Attributes:
        path: of the folder.
        architecture, settings: the class of Transformers, and its configuration.
        wrap: a module of that class, as it is called with a batch.
    """

    path: Path
    architecture: Any
    settings: Any
    wrap: Callable[[nn.Module], Pretrained]

    def find_weights(self, names: Sequence[str]) -> Path | None:
        """The first of these files that it has."""
        return next((self.path / name for name in names if (self.path / name).exists()), None)

    def build(self) -> nn.Module:
        """The module, with any weights."""
        model: nn.Module = self.architecture._from_config(self.settings)
        return model


def open_folder(config: Config, comm: Comm) -> Folder:
    """What the folder named by --model holds beside weights; every rank calls this, and rank 0 alone reads.

    Raises:
        UsageError, ModelError: as `build_from_folder`.
    """
    folder = Path(str(config.model))
    transformers = comm.on_each(lambda: _import_transformers(config.trust_code))
    found = comm.on_root(lambda: _read_config(folder))
    patterns = ["config.json", *TOKENISER_FILES, *PROCESSOR_FILES, *["*.py"] * config.trust_code]
    small = broadcast_small_files(comm, folder, patterns)
    architecture, settings = comm.on_each(lambda: _find_class(transformers, found, folder, small, config.trust_code))
    generates = _generates(transformers, architecture, found)
    comm.on_each(lambda: _check_options(config.model_args, generates))
    tokenise = Tokeniser(transformers, small, config)
    name = f"--model {folder}"
    images = open_processor(comm, transformers, name, small, architecture, settings, config.trust_code)
    return Folder(
        folder, architecture, settings, lambda model: Pretrained(model, generates, config.model_args, tokenise, images)
    )


def _import_transformers(trust_code: bool) -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # compute nodes have no internet; nothing is to be asked for there
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # threads beside those of the ranks
    if trust_code:  # it is copied there before it runs: ranks must not write over one another's
        os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="runner-code-")
        atexit.register(shutil.rmtree, os.environ["HF_MODULES_CACHE"], ignore_errors=True)
    try:
        import transformers
    except ImportError as error:
        raise UsageError(
            "Hugging Face models need Transformers: pip install 'horovod-inference-runner[huggingface]'"
        ) from error
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text())
    except OSError as error:
        raise ModelError(f"--model {folder} is no folder of Hugging Face's: config.json: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"--model {folder}: config.json is damaged: {error}") from error
    if is_timm_folder(str(folder)):
        raise UsageError(f"--model {folder} is a folder of timm's, which is not split over ranks or offloaded")
    if not isinstance(found, dict) or not found.get("architectures") or not found.get("model_type"):
        raise ModelError(f"--model {folder}: config.json names no architecture; save the model with save_pretrained")
    return found


def _find_class(
    transformers: Any, found: dict[str, Any], folder: Path, small: str, trust_code: bool
) -> tuple[Any, Any]:
    """The class that config.json names, and its settings; code in the folder is run if it is trusted."""
    name = found["architectures"][0]
    own = [place for place in found.get("auto_map", {}).values() if str(place).endswith(f".{name}")]
    if own and trust_code:
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        try:
            settings = transformers.AutoConfig.from_pretrained(small, local_files_only=True, trust_remote_code=True)
            return get_class_from_dynamic_module(own[0], small, local_files_only=True), settings
        except Exception as error:
            raise ModelError(f"--model {folder}: its code failed: {describe(error)}", traceback_of(error)) from error
    architecture = getattr(transformers, name, None)
    if architecture is None:
        why = f"is not in Transformers {transformers.__version__}"
        if own:
            why = "is code in the folder, which is not run. Where you trust whoever made it, --trust-code lets it"
        raise ModelError(f"--model {folder}: {name} {why}")
    try:
        return architecture, transformers.AutoConfig.for_model(**found)
    except Exception as error:
        raise ModelError(f"--model {folder}: config.json cannot be used: {describe(error)}") from error


def _generates(transformers: Any, architecture: Any, found: dict[str, Any]) -> bool:
    """Whether a class is a causal language model."""
    names = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    own = str(found.get("auto_map", {}).get("AutoModelForCausalLM", ""))
    return architecture.__name__ in names or own.endswith(f".{architecture.__name__}")


def _check_options(options: dict[str, Any], generates: bool) -> None:
    for name in options:
        if name not in _OPTIONS:
            raise UsageError(f"--model-args: {name!r} is not one of {', '.join(_OPTIONS)}")
    if options.get("pooling", "mean") not in _POOLING:
        raise UsageError(f"--model-args: pooling {options['pooling']!r} is not one of {', '.join(_POOLING)}")
    if not isinstance(options.get("max_length", 1), int) or options.get("max_length", 1) < 1:
        raise UsageError(f"--model-args: max_length {options['max_length']!r} is not a number of tokens")
    tokens = options.get("max_new_tokens")
    if options.get("score") and not generates:
        raise UsageError("--model-args: score is for causal language models")
    if generates and not options.get("score") and (not isinstance(tokens, int) or tokens < 1):
        raise UsageError("the model generates tokens: --model-args '{\"max_new_tokens\": 20}' says how many")


def _read(architecture: Any, folder: Path) -> nn.Module:
    try:
        model, loading = architecture.from_pretrained(
            folder, dtype="auto", local_files_only=True, output_loading_info=True
        )
    except Exception as error:
        raise ModelError(f"--model {folder} cannot be loaded: {describe(error)}") from error
    if missing := sorted(loading["missing_keys"]):
        raise ModelError(
            f"--model {folder} lacks weights of {architecture.__name__}: {', '.join(missing[:4])}"
            f"{' and more' * (len(missing) > 4)}. It has not been trained for that"
        )
    found: nn.Module = model
    return found
