"""Values of records, which may be damaged, and numbers in words that people read at a glance."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from runner.core import text

UNKNOWN = "not known"


class Fields(dict[str, Any]):
    """A JSON object; a field that it lacks, or that is null, is an empty object."""

    def __init__(self, values: Mapping[str, Any] = MappingProxyType({}), **more: Any) -> None:
        super().__init__({name: value for name, value in (*values.items(), *more.items()) if value is not None})

    def __missing__(self, name: str) -> "Fields":
        return Fields()

    def fields(self, name: str) -> "Fields":
        """Return an object; an empty one for whatever else a damaged record may hold."""
        return Fields(value) if isinstance(value := self[name], dict) else Fields()


class Figure(str):
    """A number in words that keeps its value, NaN where it is not known."""

    value: float


def number(value: Any) -> float:
    """Return a finite number; NaN for whatever else a damaged record may hold."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else math.nan


def objects(value: Any) -> list[Fields]:
    """Return the objects in a list; none where it is no list."""
    return [item for item in value if isinstance(item, Fields)] if isinstance(value, list) else []


def _figure(words: Callable[[float], str]) -> Callable[[Any], Figure]:
    """Turn a function that formats numbers into one that formats anything."""

    def figure(value: Any) -> Figure:
        known = number(value)
        figure = Figure(UNKNOWN if math.isnan(known) else words(known))
        figure.value = known
        return figure

    return figure


def _percent(value: float) -> str:
    share = 100 * value
    return f"{share:.0f} %" if abs(share) >= 9.95 else f"{share:.1f} %" if abs(share) >= 0.05 else "0 %"


count = _figure(lambda value: f"{value:,.0f}")  # 12,345
rate = _figure(text.quantity)  # 12,345; 1.23
times = _figure(lambda value: f"{value:.3g}")  # a factor: 3.87
duration = _figure(text.duration)  # 3.2 ms, 1.23 s, 45.6 s, 12 min 5 s, 3 h 7 min
size = _figure(text.byte_size)  # 12.3 MiB
speed = _figure(lambda value: f"{text.byte_size(value)}/s")  # 12.3 MiB/s
percent = _figure(_percent)  # 12 %, 3.4 %


def plural(amount: Any, noun: str) -> str:
    """Format an amount of things: 1 rank, 2 ranks."""
    return f"{count(amount)} {noun}{'' if amount == 1 else 's'}"


def spans(numbers: list[int]) -> str:
    """Format whole numbers, those that follow one another as a span: 0-3, 7."""
    parts: list[list[int]] = []
    for each in sorted(numbers):
        if parts and each == parts[-1][1] + 1:
            parts[-1][1] = each
        else:
            parts.append([each, each])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


FORMATS = ("count", "duration", "number", "percent", "plural", "rate", "size", "speed", "times")  # of templates
