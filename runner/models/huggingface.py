"""Folders as Hugging Face's `save_pretrained` leaves them: config.json and the weights, read by Transformers.

Rank 0 alone reads the folder, and sends what the others need of it. Rows of text go through its tokeniser. What comes
out depends on the architecture that config.json names: of one with a head
(`...ForSequenceClassification`, `...ForImageClassification`) its logits, for each token where they are of tokens; of
one without, the hidden states pooled to one vector a row; of a causal language model the tokens, or the text, that
greedy decoding adds.
"""

import atexit
import functools
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from runner.comm import Comm
from runner.config import Config
from runner.errors import ModelError, UsageError, describe, traceback_of
from runner.models.files import broadcast_small_files
from runner.models.module import spread
from runner.rows import RaggedTensor

_OPTIONS = ("pooling", "max_new_tokens", "max_length", "decode")
_POOLING = ("mean", "cls", "last")
_VOCABULARY = ("tokenizer.json", "vocab*", "*.model", "*.tiktoken")  # without one, a tokeniser knows no word
_TOKENISER = (
    *_VOCABULARY,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
)
_NO_LIMIT = 1 << 20  # tokenisers that know no limit of length name a huge one


def build_from_folder(config: Config, comm: Comm, device: torch.device) -> tuple[Any, str]:
    """The model on `device`, ready to be called with token ids and mask or with whatever else it takes, and its digest.

    Raises:
        UsageError: Transformers is missing, or `model_args` hold what cannot be.
        ModelError: the folder cannot be used.
    """
    folder = Path(str(config.model))
    transformers = comm.on_each(lambda: _import_transformers(config.trust_code))
    found = comm.on_root(lambda: _read_config(folder))
    patterns = ["config.json", *_TOKENISER, *["*.py"] * config.trust_code]
    small = broadcast_small_files(comm, folder, patterns)
    architecture, settings = comm.on_each(lambda: _find_class(transformers, found, folder, small, config.trust_code))
    generates = _generates(transformers, architecture, found)
    comm.on_each(lambda: _check_options(config.model_args, generates))

    def read() -> nn.Module:
        return _read(architecture, folder)

    def build() -> nn.Module:
        model: nn.Module = architecture._from_config(settings)
        return model

    model, digest = spread(comm, config, f"--model {folder}", read, build, device)
    tokenise = Tokeniser(transformers, small, config)
    return Pretrained(model, generates, config.model_args, tokenise), digest


class Tokeniser:
    """Text to token ids and mask, by the tokeniser of a folder, which is loaded when it is first used.

    What is longer than the model takes, or than `max_length` of the model's arguments, is cut off.
    """

    def __init__(self, transformers: Any, folder: str, config: Config) -> None:
        self._transformers, self._folder = transformers, folder
        self._name, self._trust_code = config.model, config.trust_code
        self._max_length: int | None = config.model_args.get("max_length")

    def __call__(self, *texts: list[str]) -> dict[str, torch.Tensor]:
        """The model's arguments for a batch of texts, or of pairs of texts.

        Raises:
            ModelError: there is no tokeniser in the folder.
        """
        tokenise, max_length = self._loaded
        found = tokenise(
            *texts, padding=True, truncation=max_length is not None, max_length=max_length, return_tensors="pt"
        )
        return dict(found)

    def decode(self, tokens: torch.Tensor) -> list[str]:
        """The text of token ids `(batch, length)`, without special ones.

        Raises:
            ModelError: there is no tokeniser in the folder.
        """
        found: list[str] = self._loaded[0].batch_decode(tokens, skip_special_tokens=True)
        return found

    @functools.cached_property
    def _loaded(self) -> tuple[Any, int | None]:
        if not any(file for pattern in _VOCABULARY for file in Path(self._folder).glob(pattern)):
            raise ModelError(f"--model {self._name} has no tokeniser in it, which rows of text need")
        try:
            tokenise = self._transformers.AutoTokenizer.from_pretrained(
                self._folder, local_files_only=True, trust_remote_code=self._trust_code
            )
            settings = self._transformers.AutoConfig.from_pretrained(
                self._folder, local_files_only=True, trust_remote_code=self._trust_code
            )
        except Exception as error:
            raise ModelError(f"--model {self._name}: its tokeniser cannot be loaded: {describe(error)}") from error
        if tokenise.pad_token is None:
            tokenise.pad_token = tokenise.eos_token or tokenise.unk_token
        tokenise.padding_side = "right"
        limits = [self._max_length, tokenise.model_max_length, getattr(settings, "max_position_embeddings", None)]
        known = [limit for limit in limits if limit and limit < _NO_LIMIT]
        return tokenise, min(known, default=None)


class Pretrained:
    """Calls a model of Transformers by the names of its inputs, and picks what it is run for.

    Args:
        model: the model.
        generates: whether it is run to add tokens.
        options: `pooling` (mean, cls or last) for a model without a head; `max_new_tokens` for a causal
            one, and `decode` for text instead of tokens.
        tokenise: from text, or several columns of it, to the model's arguments.
    """

    def __init__(self, model: Any, generates: bool, options: dict[str, Any], tokenise: Tokeniser) -> None:
        self.tokenise, self._decodes = tokenise, bool(options.get("decode"))
        self._is_per_token = type(model).__name__.endswith("ForTokenClassification")
        self.model, self._pooling = model, options.get("pooling", "mean")
        self._max_new_tokens = options["max_new_tokens"] if generates else None

    def __call__(self, *inputs: torch.Tensor, **named: torch.Tensor) -> Any:
        names = ("input_ids", "attention_mask") if len(inputs) == 2 else (self.model.main_input_name,)
        arguments = dict(zip(names, inputs, strict=not named)) | named
        if self._max_new_tokens:
            tokens = self._generate(self._max_new_tokens, **arguments)
            return self.tokenise.decode(tokens) if self._decodes else tokens
        outputs = self.model(**arguments, return_dict=True)
        if "logits" in outputs:
            mask = arguments.get("attention_mask")
            return _of_tokens(outputs["logits"], mask) if self._is_per_token and mask is not None else outputs["logits"]
        if "last_hidden_state" not in outputs:
            return outputs
        return self._pool(outputs["last_hidden_state"], arguments.get("attention_mask"))

    def _pool(self, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """`(batch, length, width)` to `(batch, width)`."""
        if self._pooling == "cls":
            return hidden[:, 0]
        if mask is None:
            mask = hidden.new_ones(hidden.shape[:2])
        if self._pooling == "last":
            return hidden[torch.arange(len(hidden), device=hidden.device), mask.long().sum(dim=1) - 1]
        weights = mask[..., None].to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1)

    def _generate(self, max_new_tokens: int, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Token ids `(batch, max_new_tokens)`; after its end a row is filled up with the padding token."""
        lengths = attention_mask.long().sum(dim=1)
        longest = input_ids.shape[1]  # new tokens are added at the right: so rows are moved there
        places = torch.arange(longest, device=input_ids.device) - (longest - lengths)[:, None]
        moved = torch.where(places >= 0, input_ids.gather(1, places.clamp(min=0)), 0)
        padding = self._padding_token()
        found = self.model.generate(
            input_ids=moved,
            attention_mask=(places >= 0).long(),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            pad_token_id=padding,
        )[:, longest:]
        missing = max_new_tokens - found.shape[1]  # where all rows of the batch have ended sooner
        tokens: torch.Tensor = nn.functional.pad(found, (0, missing), value=padding)
        return tokens

    def _padding_token(self) -> int:
        for settings in (self.model.generation_config, self.model.config):
            for name in ("pad_token_id", "eos_token_id"):
                token = getattr(settings, name, None)
                if token is not None:
                    return int(token[0] if isinstance(token, list) else token)
        return 0


def _of_tokens(logits: torch.Tensor, mask: torch.Tensor) -> RaggedTensor:
    """`(batch, length, labels)` without what stands for padding: for each row `(its length, labels)`."""
    return RaggedTensor(logits[mask.bool()], mask.long().sum(dim=1))


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
    if generates and (not isinstance(tokens, int) or tokens < 1):
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
