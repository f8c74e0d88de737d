"""The --model-args of a sentence-transformers folder, and checks that a loaded model supports them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from runner.core.errors import UsageError

_OF_ALL = ("prompt_name", "prompt", "prompt_column", "max_length")
_OPTIONS = {
    "SentenceTransformer": (*_OF_ALL, "task", "truncate_dim", "normalize", "precision", "calibration"),
    "SparseEncoder": (*_OF_ALL, "task"),
    "CrossEncoder": _OF_ALL,
}
KINDS = tuple(_OPTIONS)
_OF_TYPE: dict[str, type] = {"normalize": bool, "truncate_dim": int, "max_length": int}  # the others are text
_PRECISIONS = ("float32", "binary", "ubinary", "int8", "uint8")
_PROMPTS = ("prompt_name", "prompt", "prompt_column")
_NO_LIMIT = 1 << 20  # tokenizers without a length limit report a huge one


def check_options(kind: str, options: Mapping[str, Any]) -> None:
    """Raise UsageError where options do not apply to a model of this kind."""
    for name, value in options.items():
        if name not in _OPTIONS[kind]:
            raise UsageError(f"--model-args: {name!r} is not one of a {kind}'s: {', '.join(_OPTIONS[kind])}")
        wanted = _OF_TYPE.get(name, str)
        if type(value) is not wanted or (isinstance(value, int) and wanted is int and value < 1):
            what = {bool: "true or false", int: "a whole number of 1 or more", str: "text"}[wanted]
            raise UsageError(f"--model-args: {name} must be {what}, not {value!r}")
    if len(prompts := [name for name in _PROMPTS if name in options]) > 1:
        raise UsageError(f"--model-args: {' and '.join(prompts)} cannot be combined; give one of them")
    precision = options.get("precision", "float32")
    if precision not in _PRECISIONS:
        raise UsageError(f"--model-args: precision {precision!r} is not one of {', '.join(_PRECISIONS)}")
    needs_ranges = precision in ("int8", "uint8")
    if needs_ranges and "calibration" not in options:
        raise UsageError(
            f"--model-args: precision {precision} needs the range of each dimension, which must not depend on the rows "
            'at hand: "calibration": "PATH.npy" names float embeddings of this model, or the smallest and the largest '
            "value of each dimension in two rows"
        )
    if "calibration" in options and not needs_ranges:
        raise UsageError("--model-args: calibration goes with precision int8 or uint8")


def adjust(model: Any, kind: str, options: Mapping[str, Any]) -> None:
    """Set the options on a loaded model.

    Raises:
        UsageError: the model does not support an option.
    """
    if "task" in options and "task" not in model.get_model_kwargs():
        raise UsageError("--model-args: task is for models with a Router, or modules that take one; this has none")
    width = model.get_embedding_dimension() if kind == "SentenceTransformer" else None
    if width is not None and options.get("truncate_dim", 1) > width:
        raise UsageError(f"--model-args: truncate_dim {options['truncate_dim']} is more than the model's {width}")
    if "max_length" not in options:
        return
    wanted = options["max_length"]
    limit = model.max_seq_length
    if limit is not None and limit < min(wanted, _NO_LIMIT):
        raise UsageError(f"--model-args: max_length {wanted} is more than the {limit} tokens that the model takes")
    if limit is None or math.isinf(limit):
        raise UsageError("--model-args: max_length does nothing here, the model has no limit of length")
    model.max_seq_length = wanted


def read_ranges(path: str) -> np.ndarray:
    """Return the smallest and largest value of each dimension `(2, width)`, from a .npy file `(rows, width)`.

    Raises:
        UsageError: there is no such file, or its contents are not embeddings.
    """
    try:
        array = np.load(path)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"--model-args: calibration {path} cannot be read as .npy: {error}") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or len(array) < 2 or array.dtype.kind != "f":
        what = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise UsageError(
            f"--model-args: calibration {path} holds {what}, not floating-point embeddings (rows, dimensions) of two "
            "rows or more"
        )
    return np.vstack((array.min(axis=0), array.max(axis=0)))
