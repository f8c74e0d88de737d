"""Checks of the values of options."""

import re
from typing import Any

from runner.core.errors import UsageError
from runner.core.imports import split_spec

_UNITS = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
COLUMN_TYPES = ("string", "bool", *_INTEGERS, "float32", "float64", "list")
NAMED_POSTPROCESS = ("argmax", "softmax", "topk:K")


def check_postprocess(spec: str) -> None:
    """Raise UsageError unless `spec` is a named post-processing or of the form `module:function`."""
    name, _, argument = spec.partition(":")
    if name == "topk":
        if not argument.isdecimal() or int(argument) < 1:
            raise UsageError(f"--postprocess {spec!r}: topk:K needs a whole number K of 1 or more")
    elif spec not in NAMED_POSTPROCESS:
        if ":" not in spec:
            raise UsageError(
                f"--postprocess {spec!r} is none of {', '.join(NAMED_POSTPROCESS)}, nor of the form package.module:name"
            )
        split_spec(spec, "--postprocess")


def metrics_port(value: int | str) -> int | None:
    """Return the port in the value of --metrics; None where it is a path."""
    return int(value) if str(value).isdecimal() else None


def check_metrics(value: Any) -> None:
    """Raise UsageError unless the value of --metrics is a port or the path of a .prom file."""
    port = metrics_port(value)
    if port == 0 or (port is None and not (isinstance(value, str) and value.endswith(".prom"))):
        raise UsageError(f"--metrics {value!r} is neither a port, such as 9400, nor a path that ends in .prom")


def check_choice(option: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise UsageError unless a value is one of the allowed ones."""
    if value not in allowed:
        raise UsageError(f"{option} {value!r} is not one of {', '.join(allowed)}")


def check_positive(option: str, value: Any) -> None:
    """Raise UsageError unless a value is a whole number of 1 or more."""
    check_minimum(option, value, 1)


def check_minimum(option: str, value: Any, minimum: int) -> None:
    """Raise UsageError unless a value is a whole number of `minimum` or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise UsageError(f"{option} must be a whole number of {minimum} or more, not {value!r}")


def parse_time(option: str, value: Any) -> Any:
    """Return the seconds of a value given as H:MM:SS, as schedulers write it; anything else as it is.

    Raises:
        UsageError: the text is neither a whole number nor of that form.
    """
    if not isinstance(value, str):
        return value
    if match := re.fullmatch(r"(\d+):([0-5]\d):([0-5]\d)", value):
        return int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3])
    if not value.isdecimal():
        raise UsageError(f"{option} {value!r} must be H:MM:SS, such as 2:30:00, or a whole number of seconds")
    return int(value)


def split_type(pair: str) -> tuple[str, str]:
    """Return the name and the type in NAME=TYPE.

    Raises:
        UsageError: it is not of that form, or there is no such type.
    """
    name, equals, kind = pair.rpartition("=")
    if not equals or not name or kind not in COLUMN_TYPES:
        raise UsageError(f"--types {pair!r} must be NAME=TYPE, with a type of {', '.join(COLUMN_TYPES)}")
    return name, kind


def parse_memory(text: str) -> int:
    """Return the bytes of a node's memory, given as 900M, 64G or 2T.

    Raises:
        UsageError: the text is not of that form.
    """
    if not re.fullmatch(r"[1-9]\d*[MGT]", text):
        raise UsageError(f"--memory {text!r} must be like 900M, 64G or 2T, of a node")
    return int(text[:-1]) * _UNITS[text[-1]]


def multiples_near(value: int, step: int) -> str:
    """Return the multiples of `step` next to a value, in words."""
    below = value // step * step
    return " and ".join(str(n) for n in (below, below + step) if n)
