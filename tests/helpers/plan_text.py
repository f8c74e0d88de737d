"""Figures in what `plan` prints."""

import re


def fact(text: str, name: str) -> str:
    """A line of the first part."""
    return next(line.removeprefix(name).strip() for line in text.splitlines() if line.startswith(f"{name} "))


def number(text: str) -> float:
    """The first number."""
    return float(re.search(r"[\d,.]*\d", text)[0].replace(",", ""))


def seconds_in(text: str) -> float:
    """The seconds of a duration, such as 12 min 5 s."""
    units = {"ms": 0.001, "s": 1, "min": 60, "h": 3600}
    return sum(float(amount) * units[unit] for amount, unit in re.findall(r"([\d.]+) (\w+)", text))
