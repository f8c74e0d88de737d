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


def drop_unprinted() -> None:
    """Let what could not be printed change no exit code: Python tries again at its exit."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
