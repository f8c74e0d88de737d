"""Files that appear under their names when they are complete."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def atomic_file(path: Path) -> Iterator[TextIO]:
    """Open `PATH.partial` for text, and rename it to `path` at the end; leave nothing behind where that fails.

    Raises:
        OSError: the file cannot be written or renamed.
    """
    beside = path.with_name(f"{path.name}.partial")
    try:
        with beside.open("w") as file:
            yield file
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """Write a file of this text; see `atomic_file`."""
    with atomic_file(path) as file:
        file.write(text)
