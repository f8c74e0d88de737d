"""Text of numbers that people read at a glance: counts, durations, rates, bytes."""

from collections.abc import Iterable, Sequence

_MOST_NAMED = 20
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def plural(count: float, noun: str, nouns: str = "") -> str:
    """Return a count of things: 1 rank, 2 ranks, 12,345 rows; `nouns` is the plural where it is not noun + s."""
    return f"{count:,.0f} {noun if count == 1 else nouns or noun + 's'}"


def row_range(start: int, stop: int) -> str:
    """Return the name of the rows from `start` up to, not including, `stop`: row 7; rows 0 to 31."""
    return f"row {start}" if stop - start == 1 else f"rows {start} to {stop - 1}"


def quantity(value: float) -> str:
    """Return a number with at least three digits: 12,345; 45.6; 1.23."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def rate(per_second: float, unit: str = "rows") -> str:
    """Return an amount per second: 12,345 rows/s; 1.23 rows/s."""
    return f"{quantity(per_second)} {unit}/s"


def byte_size(num_bytes: float) -> str:
    """Return bytes in powers of 1024: 999 bytes; 12.3 MiB."""
    power = 0
    while abs(num_bytes) >= 999.5 and power < len(_UNITS) - 1:
        num_bytes, power = num_bytes / 1024, power + 1
    return f"{quantity(num_bytes)} {_UNITS[power]}" if power else plural(round(num_bytes), "byte")


def duration(seconds: float) -> str:
    """Return a measured duration: 3.2 ms; 1.23 s; 45.6 s; 12 min 5 s; 3 h 7 min; 2 d 3 h."""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 0.9995:
        return f"{1000 * seconds:.3g} ms" if seconds else "0 s"
    if seconds < 99.5:
        return f"{seconds:.{2 if seconds < 9.995 else 1}f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else _long_duration(seconds)


def rough_duration(seconds: float) -> str:
    """Return an estimated duration: 34 s; 12 min; 3 h 7 min; 2 d 3 h."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else _long_duration(seconds)


def _long_duration(seconds: float) -> str:
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    return f"{minutes // 60} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def listed(names: Sequence[str], most: int = _MOST_NAMED) -> str:
    """Join names for a message, at most `most` and the number of further ones."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def name_some(words: Iterable[str]) -> str:
    """Join the first three different words, and add the number of further ones."""
    return listed(list(dict.fromkeys(words)), 3)
