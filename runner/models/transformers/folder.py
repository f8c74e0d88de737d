"""Folders saved by Hugging Face's `save_pretrained`: config.json and the weights, run by Transformers.

Rank 0 alone reads the folder, and sends its contents to the other ranks as needed. Rows of text go through the folder's
tokenizer. The output depends on the class that config.json or the user names. A class with a head gives the head's
outputs (`...ForSequenceClassification`, `...ForImageClassification`), per token where the head works on tokens. A class
without one gives the hidden states pooled to one vector a row. A class that generates gives the tokens, or the text,
that greedy decoding adds, or the likelihood of a text.
"""

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from runner.comm import Comm
from runner.config.options import Config
from runner.core.errors import ModelError, describe
from runner.core.imports import import_extra
from runner.core.messages import tell
from runner.host.environment import set_default, set_variable
from runner.models.images.processor import PROCESSOR_FILES, open_processor
from runner.models.language.asked import Asked
from runner.models.language.generator import what_is_asked
from runner.models.language.request_encoder import make_request_encoder
from runner.models.language.settings import given_settings, other_decoding, read_settings, without_effect
from runner.models.transformers.adapters import Adapter, find_adapter, import_peft
from runner.models.transformers.architecture import GENERATES, Architecture, find_architecture, read_config
from runner.models.transformers.gguf import find_gguf, unpack_settings
from runner.models.transformers.loading import (
    build_like,
    dtype_of,
    has_pooler_weights,
    lacks_pooler_alone,
    load_model,
    refuse_quantized,
    stored_tensors,
)
from runner.models.transformers.options import check_options, check_values
from runner.models.transformers.pretrained import Pretrained
from runner.models.transformers.tokenizer import TOKENIZER_FILES, FolderTokenizer
from runner.models.weights.broadcast import spread
from runner.models.weights.files import broadcast_small_files
from runner.sources import are_requests

SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
_WEIGHTS = (*SAFETENSORS, "pytorch_model.bin", "pytorch_model.bin.index.json")
_GENERATION = "generation_config.json"
SAVED_OTHERWISE = (
    ". Transformers gives tensors of some models, such as ViT and mixtures of experts, other names and shapes when it "
    "loads them, or leaves some out; here they are read as they are: save what from_pretrained gives anew, with "
    "save_pretrained(PATH, save_original_format=False)"
)


def build_from_folder(config: Config, comm: Comm, device: torch.device) -> tuple[Any, str]:
    """Return the model on `device`, ready to be called with token ids and mask or other inputs, and its digest.

    Raises:
        UsageError: Transformers is missing, or `model_args` are not valid.
        ModelError: the folder cannot be used.
    """
    folder = open_folder(config, comm)
    model, digest = spread(comm, config, f"--model {folder.path}", folder.load, folder.build, device)
    return folder.wrap(model), digest


@dataclass(frozen=True)
class Folder:
    """The contents of a folder besides weights.

    Attributes:
        path: folder with the weights.
        architecture: class of Transformers, and its configuration.
        adapter: adapter to apply to the model, or None.
        gguf: name of the .gguf file that holds the weights, or None.
        build: builds a module like that of `load`, with arbitrary weights.
        wrap: wraps such a module for calls with a batch.
    """

    path: Path
    architecture: Architecture
    adapter: Adapter | None
    gguf: str | None
    build: Callable[[], nn.Module]
    wrap: Callable[[nn.Module], Pretrained]

    @property
    def settings(self) -> Any:
        """The configuration of the model."""
        return self.architecture.settings

    def find_weights(self, names: Sequence[str]) -> Path | None:
        """Return the path of the first of these files that the folder has, or None."""
        return _find(self.path, names)

    def load(self) -> nn.Module:
        """Return the module with its weights, as `from_pretrained` loads it; for rank 0.

        Raises:
            ModelError: the weights cannot be loaded, or some are missing.
        """
        return load_model(self.architecture, self.path, self.adapter, self.gguf)


def open_folder(config: Config, comm: Comm) -> Folder:
    """Return the contents besides weights of the folder that --model names; every rank calls this, rank 0 alone reads.

    Raises:
        UsageError, ModelError: see `build_from_folder`.
    """
    comm.on_each(lambda: check_values(config.model_args))
    folder, wanted = Path(str(config.model)), config.model_args.get("class")
    transformers = comm.on_each(lambda: import_transformers(config.trust_code))
    adapter = comm.on_root(lambda: find_adapter(folder, config))
    if adapter is not None:
        comm.on_each(import_peft)
        folder = adapter.base
        wanted = wanted or adapter.task_class
    gguf = comm.on_root(lambda: find_gguf(folder, config))
    settings_in = comm.on_root(lambda: unpack_settings(transformers, folder, gguf) if gguf else folder)
    if gguf:
        wanted = wanted or "AutoModelForCausalLM"
    config_json = comm.on_root(lambda: read_config(settings_in, wanted is None))
    comm.on_each(lambda: refuse_quantized(config_json, config))
    small = _send_small_files(comm, config, settings_in, adapter)
    architecture = comm.on_each(
        lambda: find_architecture(transformers, config_json, folder, small, config.trust_code, wanted)
    )
    has_requests = comm.on_root(lambda: are_requests(config.data, config.columns, config.keep, config.types_by_column))
    comm.on_each(lambda: check_options(config.model_args, architecture, has_requests))
    generation = comm.on_each(lambda: _generation(transformers, small, folder, architecture))
    generates = architecture.role == GENERATES and not config.model_args.get("score")
    asked = comm.on_each(lambda: what_is_asked(generation, config.model_args)) if generates else None
    if asked is not None and comm.world.rank == 0:
        _warn_of_settings(config, generation, asked)
    dtype, has_pooler = comm.on_root(lambda: _look_at_weights(folder, architecture))
    tokenize_texts = FolderTokenizer(transformers, small, config)
    requests = make_request_encoder(config, generation, tokenize_texts) if has_requests else None
    images = open_processor(
        comm,
        transformers,
        f"--model {folder}",
        small,
        architecture.model_class,
        architecture.settings,
        config.trust_code,
    )
    return Folder(
        folder,
        architecture,
        adapter,
        gguf,
        lambda: build_like(architecture, dtype, has_pooler, generation),
        lambda model: comm.on_each(
            lambda: Pretrained(model, asked, config.model_args, tokenize_texts, images, requests)
        ),
    )


def import_transformers(trust_code: bool) -> Any:
    """Import Transformers and return it, set up for ranks without a network.

    Raises:
        UsageError: it is missing.
    """
    set_default("HF_HUB_OFFLINE", "1")  # compute nodes have no internet; nothing is to be asked for there
    set_default("TOKENIZERS_PARALLELISM", "false")  # threads beside those of the ranks
    if trust_code:  # it is copied there before it runs: ranks must not write over one another's
        copies = tempfile.mkdtemp(prefix="runner-code-")
        set_variable("HF_MODULES_CACHE", copies)
        atexit.register(shutil.rmtree, copies, ignore_errors=True)
    transformers = import_extra("transformers", "a Hugging Face model", "huggingface")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _send_small_files(comm: Comm, config: Config, folder: Path, adapter: Adapter | None) -> str:
    """Return this rank's own folder with the files besides the weights; an adapter's tokenizer replaces its base's."""
    patterns = ["config.json", _GENERATION, *TOKENIZER_FILES, *PROCESSOR_FILES, *["*.py"] * config.trust_code]
    small = broadcast_small_files(comm, folder, patterns)
    if adapter is not None and adapter.folder != folder:
        own = broadcast_small_files(comm, adapter.folder, TOKENIZER_FILES)
        comm.on_each(lambda: shutil.copytree(own, small, dirs_exist_ok=True))
    return small


def _generation(transformers: Any, small: str, folder: Path, architecture: Architecture) -> Any:
    """Return the generation settings of a model that generates; None for other models."""
    if architecture.role != GENERATES:
        return None
    file = Path(small) / _GENERATION
    try:
        if file.exists():
            json.loads(file.read_text())  # Transformers passes over a damaged one
        return read_settings(transformers, small)
    except Exception as error:
        raise ModelError(f"--model {folder}: {_GENERATION} cannot be used: {describe(error)}") from error


def _warn_of_settings(config: Config, generation: Any, asked: Asked) -> None:
    """Name the settings that do nothing."""
    if others := other_decoding(generation):
        tell(
            f"runner: warning: {_GENERATION} of --model {config.model} asks for {others}; it has no effect: each row "
            "gets one answer, of greedy choices or samples"
        )
    if idle := without_effect(asked.settings, given_settings(config.model_args)):
        tell(
            f'runner: warning: --model-args: {", ".join(idle)} has no effect without "do_sample": true, as decoding is '
            "greedy"
        )


def _look_at_weights(folder: Path, architecture: Architecture) -> tuple[torch.dtype | None, bool]:
    """Return the dtype of the weights where no configuration names one, and whether they include a pooler's."""
    model_class = architecture.model_class
    settings = architecture.settings
    says_dtype = getattr(settings, "dtype", None) is not None
    if says_dtype and not lacks_pooler_alone(model_class, ()):
        return None, True
    path = _find(folder, _WEIGHTS)
    if path is None:
        return None, True
    try:
        stored = stored_tensors(path)
    except Exception as error:
        raise ModelError(f"--model {folder} cannot be loaded: {path.name}: {describe(error)}") from error
    return None if says_dtype else dtype_of(stored), has_pooler_weights(stored)


def _find(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).exists()), None)
