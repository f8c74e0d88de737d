"""Adapters saved by PEFT, beside a base model or in a folder of their own that names one."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.options import Config
from runner.core.errors import ModelError, UsageError, describe
from runner.core.imports import import_extra

_CONFIG = "adapter_config.json"
_CLASS_FOR_TASK = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoModel",
}


@dataclass(frozen=True)
class Adapter:
    """An adapter and its base model.

    Attributes:
        folder: folder with the adapter.
        base: folder with the model that it adapts; may be the same.
        task_class: Auto class of the task it was trained for; None where unknown, or the base is in the same folder.
    """

    folder: Path
    base: Path
    task_class: str | None


def find_adapter(folder: Path, config: Config) -> Adapter | None:
    """Return the adapter in a folder, or None; for rank 0.

    Raises:
        UsageError: an option does not go with an adapter.
        ModelError: its base model is not on this machine.
    """
    if not (folder / _CONFIG).is_file():
        return None
    for name, is_given in (("--offload", config.offload is not None), ("--model-parallel", config.model_parallel > 1)):
        if is_given:
            raise UsageError(
                f"{name} cannot be combined with the adapter in --model {folder}; merge the two on one host, with "
                "PeftModel.merge_and_unload() and save_pretrained(PATH), and give that folder"
            )
    if (folder / "config.json").is_file():
        return Adapter(folder, folder, None)
    try:
        settings = json.loads((folder / _CONFIG).read_text())
        base, task = str(settings["base_model_name_or_path"]), str(settings.get("task_type"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"--model {folder}: {_CONFIG} is damaged: {describe(error)}") from error
    if not (Path(base) / "config.json").is_file():
        raise ModelError(
            f"--model {folder} holds an adapter of {base}, which is not a folder on this machine, and nothing is "
            f"downloaded. Put the path of the base model's folder into {_CONFIG}, as base_model_name_or_path"
        )
    return Adapter(folder, Path(base), _CLASS_FOR_TASK.get(task))


def import_peft() -> None:
    """Raise UsageError where PEFT, which applies adapters, is missing."""
    import_extra("peft", "an adapter", "peft")


@contextmanager
def without_adapter(folder: Path) -> Iterator[Path]:
    """Yield a folder without the adapter's files: Transformers applies an adapter it sees, and then reports less."""
    if not (folder / _CONFIG).is_file():
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="runner-base-") as own:
        for path in folder.iterdir():
            if not path.name.startswith("adapter_"):
                (Path(own) / path.name).symlink_to(path.absolute())
        yield Path(own)


def apply_adapter(model: Any, adapter: Adapter) -> set[str]:
    """Apply an adapter to its model.

    Returns:
        The names of the weights that the adapter adds or replaces, such as those of a head.

    Raises:
        ModelError: the adapter cannot be applied, or only in part.
    """
    name = f"--model {adapter.folder}"
    try:
        loading = model.load_adapter(str(adapter.folder))
    except Exception as error:
        raise ModelError(f"{name}: its adapter cannot be applied: {describe(error)}") from error
    unused = sorted(loading.unexpected_keys)
    lacking = sorted(key for key in loading.missing_and_mismatched() if _is_of_adapter(key))
    for what, keys in (("does not fit the model in", unused), ("lacks", lacking)):
        if keys:
            raise ModelError(f"{name}: its adapter {what} {', '.join(keys[:4])}{' and more' * (len(keys) > 4)}")
    return {key.replace(".modules_to_save.default.", ".") for key in model.state_dict() if ".modules_to_save." in key}


def _is_of_adapter(key: str) -> bool:
    return ".default." in key or key.endswith(".default")
