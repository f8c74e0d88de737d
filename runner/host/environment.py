"""Environment variables that the runner sets for libraries, which read them when they are imported."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


def set_default(name: str, value: str) -> None:
    """Set a variable, unless the user has."""
    os.environ.setdefault(name, value)


def set_variable(name: str, value: str) -> None:
    """Set a variable."""
    os.environ[name] = value


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """Set a variable for as long as this lasts."""
    previous = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if previous is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = previous
