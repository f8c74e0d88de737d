"""Folders of sentence-transformers: how to recognize them, and their contents besides weights."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.core.errors import ModelError
from runner.models.sentences.options import KINDS

_MARKS = ("config_sentence_transformers.json", "sentence_bert_config.json", "1_Pooling/config.json")
_ACTIVATIONS = ("activation_fn", "activation_function", "sbert_ce_default_activation_function")


def kind_of(folder: Path) -> str | None:
    """Return the sentence-transformers class that loads a folder; None where the folder is not the library's.

    Raises:
        ModelError: the folder is incomplete, or its class is unknown here.
    """
    settings = _read_json(folder / _MARKS[0], {})
    if (folder / "modules.json").exists():
        kind = settings.get("model_type", "SentenceTransformer")
        if kind not in KINDS:
            raise ModelError(f"--model {folder}: its model_type {kind} is not one of {', '.join(KINDS)}")
        return str(kind)
    marks = _read_json(folder / "config.json", {})
    if "sentence_transformers" in marks or "sbert_ce_default_activation_function" in marks:
        return "CrossEncoder"  # of an older version, which wrote no modules.json
    if mark := next((mark for mark in _MARKS if (folder / mark).exists()), None):
        raise ModelError(
            f"--model {folder} has {mark}, but not the modules.json that sentence-transformers writes with it: what "
            "else the model is made of is not known. Copy the whole folder"
        )
    return None


def is_sentence_folder(path: str) -> bool:
    """Return whether a folder is one of sentence-transformers; for errors see `kind_of`."""
    return kind_of(Path(path)) is not None


def refuse_code(folder: Path) -> None:
    """Raise ModelError where the library would run, or leave out, code that is neither its own nor PyTorch's."""
    for name in _classes(folder):
        if not name.startswith(("sentence_transformers.", "torch.")):
            raise ModelError(
                f"--model {folder}: {name} is code of the folder or of another package, which is not run. If you trust "
                "its author, allow it with --trust-code"
            )


def _classes(folder: Path) -> Iterator[str]:
    """Yield the modules and activations of a folder that are named by Python paths."""
    for module in _read_json(folder / "modules.json", []):
        yield str(module.get("type")) if isinstance(module, dict) else str(module)
    for place in sorted(folder.glob("**/router_config.json")):
        yield from _read_json(place, {}).get("types", {}).values()
    for place in [folder / _MARKS[0], *sorted(folder.glob("**/config.json"))]:
        settings = _read_json(place, {})
        own = settings.get("sentence_transformers")
        named = [own.get("activation_fn")] if isinstance(own, dict) else []
        named += [settings.get(key) for key in _ACTIVATIONS]
        yield from (name for name in named if isinstance(name, str) and "." in name)


def _read_json(file: Path, default: Any) -> Any:
    """Return the contents of a JSON file, which must have the default's type; the default where there is none."""
    if not file.exists():
        return default
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"--model {file.parent}: {file.name} is damaged: {error}") from error
    if not isinstance(content, type(default)):
        raise ModelError(
            f"--model {file.parent}: {file.name} holds a {type(content).__name__}, not a {type(default).__name__}"
        )
    return content
