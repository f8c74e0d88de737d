"""Exceptions of a batch, as errors that name its rows."""

import traceback
from collections.abc import Sequence

import torch

from runner.core.errors import InputError, MemoryShortage, ModelError, describe, traceback_of
from runner.data.rows import name_rows


def failure_of(what: str, ids: Sequence[int], error: Exception, hint: str = "") -> Exception:
    """Make an error of an exception: of its own kind where it is one of ours, and lets go of the memory it holds.

    Args:
        what: failed, in words.
        ids: the numbers of the rows.
        error: the exception.
        hint: what to do; begins with a space.
    """
    kind: type[InputError] = ModelError
    why, details = describe(error), traceback_of(error)
    if isinstance(error, InputError):  # one of ours, which says all
        kind, why, details = type(error), error.message, error.details
    elif is_memory_shortage(error):
        kind = MemoryShortage
    failure = kind(f"{what} failed on {name_rows(ids)}: {why}.{hint}", details)
    if kind is MemoryShortage:
        traceback.clear_frames(error.__traceback__)  # the model's frames hold what it had allocated
    return failure


def is_memory_shortage(error: Exception) -> bool:
    """Whether a batch did not fit the memory of its device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)  # on the CPU it has no type
