"""Tracebacks for users: the frames of their own code."""

import logging
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

_INSTALLED = {"site-packages", "dist-packages"}
_OF_PYTHON = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))
_OF_RUNNER = str(Path(__file__).parents[1])


def traceback_of(error: BaseException) -> str:
    """Return the traceback of an exception and of those that led to it: the frames of the user's code, with -v all.

    Empty if there are none, as where a library rejects what it is given.
    """
    if logging.getLogger("runner").isEnabledFor(logging.INFO):
        return "".join(traceback.format_exception(error)).rstrip()
    parts: dict[tuple[object, ...], str] = {}  # by what was raised where: an error may be met again on its way
    for raised in reversed(list(_chain(error))):
        frames = [frame for frame in traceback.extract_tb(raised.__traceback__) if is_users(Path(frame.filename))]
        if not frames and not isinstance(raised, SyntaxError):  # which names its line itself
            continue
        spot = (type(raised), str(raised), *((frame.filename, frame.lineno) for frame in frames[-1:]))
        lines = [*traceback.format_list(frames), *traceback.format_exception_only(raised)]
        parts[spot] = "Traceback (most recent call last; -v shows all frames):\n" + "".join(lines).rstrip()
    return "\n".join(parts.values())


def is_users(path: Path) -> bool:
    """Return whether a source file is the user's: neither installed nor part of Python or of the runner."""
    if str(path).startswith("<frozen "):
        return False
    return not (_INSTALLED & set(path.parts)) and not str(path).startswith((*_OF_PYTHON, _OF_RUNNER))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
