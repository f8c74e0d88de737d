"""Names of the files of an output with a file per row, which come from the data."""

import os
from collections.abc import Iterator

_LONGEST = 255  # bytes, on nearly every file system (NAME_MAX of Linux)


def refuse_name(name: str, suffix: str) -> str:
    """Return why a row's file cannot have a name, which may hold folders (`a/b`); empty where it can."""
    parts = name.split("/")
    if not parts[-1]:
        return "is empty" if not name else "ends in /"
    if os.path.isabs(name) or ".." in parts:
        return "leads out of the folder"
    if "\0" in name:
        return "holds a NUL"
    if max(len(os.fsencode(part)) for part in [*parts[:-1], parts[-1] + suffix]) > _LONGEST:
        return f"is longer than {_LONGEST} bytes with its suffix"
    return ""


def places_of(name: str, suffix: str) -> Iterator[str]:
    """Yield the path of a row's file in its one spelling, then the folders that it is in."""
    path = os.path.normpath(name + suffix)
    while path:
        yield path
        path = os.path.dirname(path)
