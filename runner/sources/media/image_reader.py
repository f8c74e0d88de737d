"""Reading of rows that are image files, decoded in several threads where that is faster."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from runner.core.errors import InputError, UsageError
from runner.data.rows import FILE, RAGGED, Ragged, RowType, ragged
from runner.host.cpus import usable_cpus
from runner.sources.media.decode import Size, decode, too_much_for_a_batch

_MOST_THREADS = 8
_PIECES = 4  # per thread, so that no thread waits long for the last
_PIECE_SECONDS = 2e-3  # minimum time of a piece, where that leaves one for each thread
_WORTH_A_THREAD_SECONDS = 100e-6  # shorter work is slower in threads, which wait for Python's lock around it
_TIMED_READS = 16  # one read in so many begins with a single row, to measure its time
_TRIED = 100

Item = TypeVar("Item")
Made = TypeVar("Made")


class ImageReader:
    """A reader of images of one size.

    Args:
        num_rows: number of rows.
        load: returns the content of a row's file; may be called from several threads.
        name: returns the name of a row for messages.
        size: height and width to which all are scaled and cut; None where all have the size of the first readable one.
        advice: what to do where an image has another size, for the message.

    Attributes:
        row_type: uint8 `(3, height, width)`, RGB.

    Raises:
        InputError: none of the first 100 can be read, so the size is unknown.
    """

    def __init__(
        self,
        num_rows: int,
        load: Callable[[int], bytes],
        name: Callable[[int], str],
        size: Size | None,
        advice: str,
    ) -> None:
        self._load = load
        self._name = name
        self._size = size
        self._advice = advice
        self._reads = 0
        self._row_seconds = 0.0
        self.row_type = RowType((3, *(size or self._first_size(num_rows))), np.dtype(np.uint8))

    @property
    def row_bytes(self) -> int:
        """The bytes of one row, decoded."""
        return self.row_type.row_bytes

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read images `start..stop`, uint8 `(stop - start, 3, height, width)`.

        Raises:
            InputError: an image cannot be read, is no image, damaged, or of another size; the first such one.
            UsageError: they are too many to be held at once.
        """
        if why := too_much_for_a_batch((stop - start) * math.prod(self.row_type.shape[1:]), range(start, stop)):
            raise UsageError(f"{why}, or a smaller size")
        images = np.empty((stop - start, *self.row_type.shape), np.uint8)

        def fill(first: int, last: int) -> None:
            for row in range(first, last):
                images[row - start] = self._image(row).transpose(2, 0, 1)

        next_row = start
        if self._reads % _TIMED_READS == 0 and stop > start:
            began = time.perf_counter()
            fill(start, start + 1)
            self._row_seconds = time.perf_counter() - began
            next_row = start + 1
        self._reads += 1
        left = stop - next_row
        threads = _num_threads()
        if left < 2 or threads == 1 or self._row_seconds < _WORTH_A_THREAD_SECONDS:
            fill(next_row, stop)
            return images
        length = max(math.ceil(left / (threads * _PIECES)), math.ceil(_PIECE_SECONDS / self._row_seconds))
        pieces = range(next_row, stop, min(length, math.ceil(left / threads)))
        # in order, so that the first error is that of the first row
        for _ in _pool().map(lambda first: fill(first, min(first + pieces.step, stop)), pieces):
            pass
        return images

    def _image(self, row: int) -> np.ndarray:
        image = decode(self._load(row), self._size, self._name(row))
        height, width = self.row_type.shape[1:]
        if image.shape[:2] != (height, width):
            raise InputError(
                f"{self._name(row)} is {image.shape[0]}x{image.shape[1]} (height x width), "
                f"not {height}x{width} as those before it. {self._advice}"
            )
        return image

    def _first_size(self, num_rows: int) -> Size:
        first_error = None
        for row in range(min(num_rows, _TRIED)):
            try:
                height, width, _ = decode(self._load(row), None, self._name(row)).shape
                return height, width
            except InputError as error:
                first_error = first_error or error
        assert first_error is not None
        raise first_error


class FileReader:
    """A reader of image files as undecoded bytes, at any size, for consumers that decode them.

    Args:
        load: returns the content of a row's file.
        row_bytes: average size of a file, in bytes.
    """

    row_type = RowType(RAGGED, FILE)

    def __init__(self, load: Callable[[int], bytes], row_bytes: int) -> None:
        self._load = load
        self.row_bytes = row_bytes

    def read(self, start: int, stop: int) -> Ragged:
        """Read files `start..stop` as variable-length rows of bytes.

        Raises:
            InputError: a file cannot be read; the first such one.
        """
        return ragged([np.frombuffer(self._load(row), FILE) for row in range(start, stop)], FILE)


def in_threads(function: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
    """Return the results of a function for each item, from several threads where there are CPUs for them.

    An exception is that of the first item that raises one.
    """
    if len(items) < 2 or _num_threads() == 1:
        return [function(item) for item in items]
    return list(_pool().map(function, items))


@functools.cache
def _num_threads() -> int:
    return min(_MOST_THREADS, len(usable_cpus()))


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """Return one pool for all data sets of this process: a data set may have many files that are opened one by one."""
    return ThreadPoolExecutor(_num_threads(), thread_name_prefix="images")
