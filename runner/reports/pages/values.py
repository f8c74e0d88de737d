"""Values of records, which may be damaged, and numbers in words that people read at a glance."""

import functools
import math
from collections.abc import Callable
from typing import Any

UNKNOWN = "not known"
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


class Figure(str):
    """A number in words that keeps its value, NaN where it is not known."""

    value: float

    def __new__(cls, words: str, value: float) -> "Figure":
        figure = super().__new__(cls, words)
        figure.value = value
        return figure


def number(value: Any) -> float:
    """Return a finite number; NaN for whatever else a damaged record may hold."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return math.nan
    return float(value)


class Fields(dict[str, Any]):
    """A JSON object, of which any field may be missing or not be what it should be."""

    def number(self, name: str) -> float:
        """Return a finite number, or NaN."""
        return number(self.get(name))

    def fields(self, name: str) -> "Fields":
        """Return an object, or an empty one."""
        value = self.get(name)
        return Fields(value) if isinstance(value, dict) else Fields()

    def objects(self, name: str) -> list["Fields"]:
        """Return the objects in a list."""
        value = self.get(name)
        return [Fields(item) for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _figure(words: Callable[[float], str]) -> Callable[[Any], Figure]:
    """Turn a function that formats numbers into one that formats anything."""

    @functools.wraps(words)
    def figure(value: Any) -> Figure:
        known = number(value)
        return Figure(UNKNOWN if math.isnan(known) else words(known), known)

    return figure


@_figure
def count(value: float) -> str:
    """Format a whole number: 12,345."""
    return f"{value:,.0f}"


@_figure
def rate(value: float) -> str:
    """Format an amount per second: 12,345; 1.23."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@_figure
def duration(seconds: float) -> str:
    """Format seconds: 3.2 ms, 1.23 s, 45.6 s, 12 min 5 s, 3 h 7 min."""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 0.9995:
        return f"{1000 * seconds:.3g} ms" if seconds else "0 s"
    if seconds < 99.5:
        return f"{seconds:.{2 if seconds < 9.995 else 1}f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


@_figure
def size(value: float) -> str:
    """Format bytes: 12.3 MiB."""
    power = 0
    while abs(value) >= 999.5 and power < len(_UNITS) - 1:
        value, power = value / 1024, power + 1
    return f"{value:.3g} {_UNITS[power]}" if power else f"{value:.0f} bytes"


@_figure
def percent(value: float) -> str:
    """Format a share of 1: 12 %, 3.4 %."""
    share = 100 * value
    if abs(share) < 0.05:
        return "0 %"
    return f"{share:.0f} %" if abs(share) >= 9.95 else f"{share:.1f} %"


@_figure
def times(value: float) -> str:
    """Format a factor: 3.87."""
    return f"{value:.3g}"


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
