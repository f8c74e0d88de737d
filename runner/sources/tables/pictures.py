"""Columns of images as Hugging Face's Datasets has them: the bytes of a file in each row, and its path."""

from typing import Any, Literal

import numpy as np

from runner.core.errors import InputError, UsageError
from runner.core.imports import import_extra
from runner.data.rows import FILE, RAGGED, Column, RowType, ragged
from runner.sources.media.decode import Size, decode, pixels_of, too_much_for_a_batch
from runner.sources.media.image_reader import in_threads
from runner.sources.tables.embedded import content_of, first_content


def are_pictures(kind: Any, sample: Any) -> bool:
    """Return whether a column is one of images.

    Args:
        kind: its Arrow type.
        sample: its first rows, chunked; None where they are not known.
    """
    content = first_content(kind, sample)
    if content is None:
        return False
    import_extra("PIL", "decoding images", "images")
    return pixels_of(content) > 0


class Pictures:
    """A column of images, decoded, or as files.

    Args:
        what: the column, for messages.
        sample: its first rows, chunked.
        size: see `runner.sources.media.decode.decode`; or `file` for the bytes of the files.

    Attributes:
        row_type: uint8 `(3, height, width)`, RGB; or files.

    Raises:
        InputError: none of the first rows can be decoded, so the size is unknown.
    """

    def __init__(self, what: str, sample: Any, size: Size | Literal["file"] | None) -> None:
        self._what = what
        self._size = size
        self.row_type = RowType(RAGGED, FILE) if size == "file" else RowType((3, *self._shape(sample)), np.dtype("u1"))

    @property
    def row_bytes(self) -> int:
        """The bytes of a row, decoded."""
        return self.row_type.row_bytes

    def column(self, rows: Any, first: int) -> Column:
        """Return images of rows, an Arrow array.

        Raises:
            InputError: an image is not there, damaged or of another size.
            UsageError: they are too many to be held at once.
        """
        contents = [self._content(row, number) for number, row in enumerate(rows.to_pylist(), first)]
        if self._size == "file":
            return ragged([np.frombuffer(content, FILE) for content in contents], FILE)
        numbers = range(first, first + len(contents))
        pixels = int(np.prod(self.row_type.shape[1:])) * len(contents)
        if why := too_much_for_a_batch(pixels, numbers):
            raise UsageError(f"{why}, or a smaller size")
        decoded = in_threads(lambda pair: self._image(*pair), list(zip(contents, numbers, strict=True)))
        return np.stack(decoded) if decoded else np.empty((0, *self.row_type.shape), np.uint8)

    def _shape(self, sample: Any) -> tuple[int, int]:
        if isinstance(self._size, tuple):
            return self._size
        first_error: InputError | None = None
        for number, row in enumerate(sample.to_pylist()):
            try:
                height, width, _ = decode(self._content(row, number), None, self._name(number)).shape
                return height, width
            except InputError as error:
                first_error = first_error or error
        assert first_error is not None
        raise first_error

    def _image(self, content: bytes, row: int) -> np.ndarray:
        size = self._size if isinstance(self._size, tuple) else None
        image = decode(content, size, self._name(row)).transpose(2, 0, 1)
        if image.shape != self.row_type.shape:
            height, width = self.row_type.shape[1:]
            raise InputError(
                f"{self._name(row)} is {image.shape[1]}x{image.shape[2]} (height x width), not {height}x{width} as the "
                "first. Bring all to one size with PATH::COLUMN@HEIGHTxWIDTH, or leave it to the image processor of a "
                "model folder with PATH::COLUMN@file"
            )
        return image

    def _content(self, row: Any, number: int) -> bytes:
        return content_of(row, self._name(number), "image")

    def _name(self, row: int) -> str:
        return f"{self._what}: row {row}"
