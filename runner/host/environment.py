"""Environment variables that the runner sets for libraries, which read them when they are imported."""

import os


def set_default(name: str, value: str) -> None:
    """Set a variable, unless the user has."""
    os.environ.setdefault(name, value)


def set_variable(name: str, value: str) -> None:
    """Set a variable."""
    os.environ[name] = value


def value_of(name: str) -> str | None:
    """Return the value of a variable; None where it is not set."""
    return os.environ.get(name)
