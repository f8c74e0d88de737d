"""Paths and URLs in options."""

from typing import Any, TypeGuard

from runner.config.model_kinds import MODEL_KINDS

_MODEL_SUFFIXES = tuple(suffix for kind in MODEL_KINDS for suffix in kind.suffixes)


def is_path(model: Any) -> TypeGuard[str]:
    """Return whether --model is the path of a file or folder, not a factory or its name; a path has a `/` or no `:`."""
    return isinstance(model, str) and (model.endswith(_MODEL_SUFFIXES) or "/" in model or ":" not in model)
