"""Text for a terminal or a log, in which nothing but the text can act: control characters are shown escaped."""

import re

from runner.core.secrets import hide_secrets

# C0 and C1 but tab and newline, delete, and what changes the direction of text
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return a text with its control characters escaped, newlines and tabs excepted."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def indented(text: str) -> str:
    """Return a printable text whose further lines are indented, so that none looks like a message of its own."""
    return printable(text).replace("\n", "\n    ")


def safe_message(text: str) -> str:
    """Return a message fit for a terminal, a log or a record: without secrets, and see `indented`."""
    return indented(hide_secrets(text))
