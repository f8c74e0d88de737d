"""The --model-args of a Hugging Face folder: the known options, and those that apply to its model."""

import inspect
from typing import Any

from runner.core.errors import UsageError
from runner.core.nearest import did_you_mean
from runner.models.language.grammars import KINDS
from runner.models.language.settings import SETTINGS
from runner.models.transformers.architecture import ENCODER, GENERATES, HEAD, Architecture

POOLING = ("mean", "mean_tokens", "cls", "last", "max")
_CHOICES = ("chat_template", "chat_template_kwargs", "served_model_name", "seed", "stop", *KINDS)
_APPLIES = {
    GENERATES: (*("class", "max_new_tokens", "max_length", "decode", "score"), *_CHOICES, *SETTINGS),
    ENCODER: ("class", "pooling", "max_length"),
    HEAD: ("class", "max_length"),
}
_IN_WORDS = {
    GENERATES: "which generates tokens",
    ENCODER: "which has no head and gives one vector a row",
    HEAD: "which has a head and gives what comes out of it",
}
_OF_TEXT = ("max_length",)
_FLAGS = ("decode", "score", "chat_template")
_COUNTS = ("max_length", "max_new_tokens")
_SEEDS = 2**63


def check_values(options: dict[str, Any]) -> None:
    """Raise UsageError where an option is unknown or its value is invalid for every model."""
    known = tuple(dict.fromkeys(name for names in _APPLIES.values() for name in names))
    for name, value in options.items():
        if name not in known:
            raise UsageError(f"--model-args: {name!r} is not one of {', '.join(known)}{did_you_mean(name, known)}")
        if name in _COUNTS and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise UsageError(f"--model-args: {name} {value!r} is not a number of tokens")
        if name in _FLAGS and not isinstance(value, bool):
            raise UsageError(f"--model-args: {name} must be true or false, not {value!r}")
        if name == "seed" and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _SEEDS):
            raise UsageError(f"--model-args: seed {value!r} is not a whole number from 0 to 2**63 - 1")
        if name == "served_model_name" and (not isinstance(value, str) or not value):
            raise UsageError(f"--model-args: served_model_name must be text, not {value!r}")
        if name == "chat_template_kwargs" and not isinstance(value, dict):
            raise UsageError(f"--model-args: chat_template_kwargs must be an object, not {value!r}")
        if name == "stop":
            check_stop(value, "--model-args: stop")
        if name == "class" and (not isinstance(value, str) or not value):
            raise UsageError(f"--model-args: class must be the name of a class of Transformers, not {value!r}")
    if options.get("pooling", "mean") not in POOLING:
        raise UsageError(f"--model-args: pooling {options['pooling']!r} is not one of {', '.join(POOLING)}")


def check_options(options: dict[str, Any], architecture: Architecture, are_requests: bool = False) -> None:
    """Raise UsageError where an option does not apply to the model, or a required one is missing.

    Args:
        options: `--model-args`.
        architecture: class and settings of the model.
        are_requests: whether rows are requests, which say themselves what they ask.
    """
    name = architecture.model_class.__name__
    takes_text = "input_ids" in inspect.signature(architecture.model_class.forward).parameters
    applicable = [option for option in _APPLIES[architecture.role] if takes_text or option not in _OF_TEXT]
    for option in options:
        if option not in applicable:
            raise UsageError(
                f"--model-args: {option} does not apply to {name}, {_IN_WORDS[architecture.role]}; what applies is "
                f"{', '.join(applicable)}"
            )
    if options.get("pooling") == "mean_tokens" and not takes_text:
        raise UsageError(f"--model-args: pooling mean_tokens does not apply to {name}, which takes no tokens")
    if are_requests and (architecture.role != GENERATES or options.get("score")):
        raise UsageError(
            f"--data holds requests of OpenAI's batch format, which a model that generates answers, and {name} does "
            "not here; with --columns, its lines are a table"
        )
    if architecture.role != GENERATES:
        return
    if options.get("score"):
        for other in _APPLIES[GENERATES]:
            if other not in ("class", "max_length", "score") and options.get(other) not in (None, False):
                raise UsageError(f"--model-args: score and {other} cannot be combined: a score adds no tokens")
    elif "max_new_tokens" not in options and not are_requests:
        raise UsageError("the model generates tokens: --model-args '{\"max_new_tokens\": 20}' says how many")


def check_stop(value: Any, what: str) -> None:
    """Raise UsageError unless a value is a string, or a list of them, at which answers end."""
    strings = [value] if isinstance(value, str) else value
    if not isinstance(strings, list) or not all(isinstance(item, str) and item for item in strings):
        raise UsageError(f"{what} must be a string or a list of strings, not {value!r}")
