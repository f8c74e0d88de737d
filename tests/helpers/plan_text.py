"""Figures in what `plan` prints."""

import re


def fact(text: str, name: str) -> str:
    """A line of the first part."""
    return next(line.removeprefix(name).strip() for line in text.splitlines() if line.startswith(f"{name} "))


def number(text: str) -> float:
    """The first number."""
    return float(re.search(r"[\d,.]*\d", text)[0].replace(",", ""))
