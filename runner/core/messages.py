"""Messages on stderr while a job works: one that cannot be printed ends no job."""

import contextlib
import os
import sys
from typing import TextIO


def tell(text: str, stream: TextIO | None = None) -> None:
    """Print a message, unless the terminal, or whoever reads, is gone.

    Args:
        text: the message.
        stream: where; stderr by default.
    """
    with contextlib.suppress(OSError, ValueError):
        print(text, file=stream or sys.stderr, flush=True)


def open_closed_streams() -> None:
    """Let what is printed to standard streams that are closed go nowhere, and not to a file that gets their number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    sys.stdin = sys.stdin or os.fdopen(os.open(os.devnull, os.O_RDONLY))
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def drop_unprinted() -> None:
    """Let what could not be printed change no exit code: Python tries again at its exit."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
