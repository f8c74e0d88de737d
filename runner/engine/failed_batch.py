"""Exceptions of a batch, turned into errors that name its rows."""

import traceback
from collections.abc import Sequence

from runner.core.errors import InputError, MemoryShortage, ModelError, describe
from runner.core.shortage import is_memory_shortage
from runner.core.tracebacks import traceback_of
from runner.data.rows import name_rows


def failure_of(what: str, ids: Sequence[int], error: Exception, hint: str = "") -> Exception:
    """Make an error that names the rows, of `error`'s type if it is an InputError; if out of memory, clear its frames.

    Args:
        what: the step that failed, in words.
        ids: numbers of the rows.
        error: the exception.
        hint: advice; begins with a space.
    """
    kind: type[InputError] = ModelError
    why = describe(error)
    details = traceback_of(error)
    if isinstance(error, InputError):  # its message is complete
        kind = type(error)
        why = error.message
        details = error.details
    elif is_memory_shortage(error):
        kind = MemoryShortage
    failure = kind(f"{what} failed on {name_rows(ids)}: {why}.{hint}", details)
    if kind is MemoryShortage:
        traceback.clear_frames(error.__traceback__)  # the model's frames hold the memory that it has allocated
    return failure
