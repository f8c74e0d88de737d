"""Numbers in words that people read at a glance; what is not a number is "not known". Pure."""

import math
from typing import Any

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
UNKNOWN = "not known"


def number(value: Any) -> float:
    """A finite number; NaN of whatever else a damaged record may hold."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return math.nan
    return float(value)


def count(value: Any) -> str:
    """A whole number: 12,345."""
    return UNKNOWN if math.isnan(found := number(value)) else f"{found:,.0f}"


def rate(value: Any) -> str:
    """Of something a second: 12,345; 1.23."""
    found = number(value)
    return UNKNOWN if math.isnan(found) else f"{found:,.0f}" if abs(found) >= 100 else f"{found:.3g}"


def duration(value: Any) -> str:
    """Seconds: 3.2 ms, 1.23 s, 45.6 s, 12 min 5 s, 3 h 7 min."""
    seconds = number(value)
    if math.isnan(seconds):
        return UNKNOWN
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 0.9995:
        return f"{1000 * seconds:.3g} ms" if seconds else "0 s"
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 99.5:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, of_hour = divmod(minutes, 60)
    return f"{hours} h {of_hour} min" if hours else f"{minutes} min {rest} s"


def size(value: Any) -> str:
    """Bytes: 12.3 MiB."""
    found = number(value)
    if math.isnan(found):
        return UNKNOWN
    for unit in _UNITS:
        if abs(found) < 999.5 or unit == _UNITS[-1]:
            break
        found /= 1024
    return f"{found:.3g} {unit}" if unit != "bytes" else f"{found:.0f} bytes"


def percent(value: Any) -> str:
    """A share of 1: 12 %, 3.4 %."""
    found = 100 * number(value)
    is_round = abs(found) >= 9.95 or abs(found) < 0.05
    return (
        UNKNOWN
        if math.isnan(found)
        else f"{abs(found) if is_round and abs(found) < 1 else found:.{int(not is_round)}f} %"
    )


def times(value: Any) -> str:
    """A factor: 3.87."""
    found = number(value)
    return UNKNOWN if math.isnan(found) else f"{found:.3g}"


def plural(amount: Any, noun: str) -> str:
    """1 rank, 2 ranks."""
    return f"{count(amount)} {noun}{'' if amount == 1 else 's'}"


def spans(numbers: list[int]) -> str:
    """Whole numbers, those that follow one another as a span: 0-3, 7."""
    parts: list[list[int]] = []
    for found in sorted(numbers):
        if parts and found == parts[-1][1] + 1:
            parts[-1][1] = found
        else:
            parts.append([found, found])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
