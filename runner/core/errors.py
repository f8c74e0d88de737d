"""Exceptions of the runner and their exit codes.

RunnerError             70  a rank that hung or computes wrong, or a bug of ours
+-- UsageError          64  wrong options, or a launch that cannot work
|   +-- BatchTooLarge   64  --batch-size is more than the model takes
+-- InputError          65  bad data
|   +-- ChunkError      65  rows of which some are bad; which ones is not known
|   +-- ModelError      65  bad model, weights, pre- or post-processing
|       +-- UnlikeLengths   65  variable-length rows in one batch, without a mask
|       +-- MemoryShortage  65  out of memory: a batch does not fit its device
+-- OutputError         73  the output cannot be written
+-- Interrupted         75  a second ^C
"""

import traceback
from typing import Any

from runner.core.printable import printable, safe_message
from runner.core.secrets import hide_secrets
from runner.core.shortage import is_memory_shortage, is_thread_shortage, name_limits

EXIT_COMPLETE = 0
EXIT_STOPPED = 75  # on purpose and in time; the same command resumes the job


class RunnerError(Exception):
    """Base of all errors with a message for the user.

    Args:
        message: what happened, on what, what is allowed, what to do about it.
        details: more text for the user, such as the traceback of the user's own code.

    Attributes:
        shared: every rank raises this same error at the same point, so rank 0 can report it for all.
        who: the rank and host it happened on; empty where every rank has it, or there is one process.
    """

    exit_code = 70

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message, details)
        self.message = safe_message(message)
        self.details = printable(hide_secrets(details))
        self.shared = False
        self.who = ""

    def __str__(self) -> str:
        return self.message


class UsageError(RunnerError):
    """Wrong options, or a launch that cannot work."""

    exit_code = 64


class BatchTooLarge(UsageError):
    """A batch size larger than the model takes.

    Args:
        message: see `RunnerError`.
        size: the largest batch the model takes, in rows.
    """

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.size), self.__dict__


class InputError(RunnerError):
    """Data that cannot be used."""

    exit_code = 65


class ChunkError(InputError):
    """Rows of a chunk that cannot be read or cut into batches together; which of them are bad is not known."""


class RowError(InputError):
    """An error in what one row holds, without the number of the row."""


class ModelError(InputError):
    """A model, its weights, or a user's function that cannot be used."""


class UnlikeLengths(ModelError):
    """Variable-length rows in one batch, for a model that gets no mask to tell where they end."""


class MemoryShortage(ModelError):
    """Out of memory: a batch that does not fit the memory of its device."""


class OutputError(RunnerError):
    """An output that cannot be written."""

    exit_code = 73


class Interrupted(RunnerError):
    """A second request to stop, by hand (^C)."""

    exit_code = EXIT_STOPPED


def shared(error: RunnerError) -> RunnerError:
    """Mark an error as one that every rank has, and return it."""
    error.shared = True
    return error


def as_runner_error(error: BaseException) -> RunnerError:
    """Return `error` itself if it is a RunnerError, Interrupted for ^C; else one that tells it, with its traceback."""
    if isinstance(error, RunnerError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("interrupted at once. What is recorded is kept; the same command resumes from there")
    details = "".join(traceback.format_exception(error)).rstrip()
    if is_memory_shortage(error):
        return MemoryShortage(f"out of memory: {describe(error)}", details)
    if is_thread_shortage(error):
        return UsageError(f"a thread that the runner needs cannot be started: {describe(error)}")
    return RunnerError(f"unexpected {describe(error)} (a bug of the runner)", details)


def describe(error: BaseException) -> str:
    """Return the type and the text of an exception as one phrase; where memory is short, with its limits."""
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{words}{name_limits(error)}"


def render(error: RunnerError) -> str:
    """Return the text shown to the user: details first, so that the message is the last thing on the screen."""
    where = f" [{error.who}]" if error.who else ""
    details = f"{error.details}\n" if error.details else ""
    return f"{details}runner: error{where}: {error.message}"
