"""Batches of images, as pixels or as image files, for models that prepare images themselves."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from runner.core.errors import MemoryShortage, ModelError
from runner.core.imports import import_extra
from runner.data.rows import name_rows
from runner.data.tensors import FileList
from runner.sources.media.decode import open_image, pixels_of, too_much_for_a_batch
from runner.sources.media.image_reader import in_threads

if TYPE_CHECKING:
    from PIL import Image

_ROW_AXES = 3


def images_in(batch: Any, name: str, ids: Sequence[int]) -> torch.Tensor | FileList | None:
    """Return the batch where it holds images that are yet to be prepared, None where the model may take it as it is.

    Args:
        batch: input for a model of images: a tensor, a list, or a dict of these where there are several columns.
        name: name of the model, for messages.
        ids: the row numbers.

    Returns:
        uint8 `(batch, height, width, channels)` or `(batch, channels, height, width)`, or files; None for
        floating-point numbers, which count as prepared.

    Raises:
        ModelError: the rows are neither images nor floating-point numbers; images are one of several columns.
    """
    if isinstance(batch, dict):
        if image_columns := [key for key, column in batch.items() if has_images(column)]:
            raise ModelError(
                f"{name} takes images as the one column: choose it with --columns {image_columns[0]}, and keep others "
                "beside the predictions with --keep"
            )
        return None
    if has_images(batch):
        return batch  # type: ignore[no-any-return]
    column = batch[0] if isinstance(batch, list) and batch else batch
    if not isinstance(column, torch.Tensor) or column.is_floating_point():
        return None
    raise ModelError(
        f"{name_rows(ids)}: {str(column.dtype).removeprefix('torch.')} rows of shape {_shape(batch)} are not images. "
        f"{name} takes uint8 of shape (height, width, channels) or (channels, height, width), image files (--data "
        "FOLDER::file), or floating-point numbers that are prepared already, as they are"
    )


def has_images(column: Any) -> bool:
    """Return whether rows are image files, or uint8 pixels `(batch, ...)` with three axes a row."""
    if isinstance(column, FileList):
        return True
    return isinstance(column, torch.Tensor) and column.dtype == torch.uint8 and column.ndim == 1 + _ROW_AXES


def are_channels_last(batch: torch.Tensor, channels: int, name: str, ids: Sequence[int]) -> bool:
    """Return whether images `(batch, ...)` have shape `(height, width, channels)`, not `(channels, height, width)`.

    Raises:
        ModelError: the shape fits both, or neither.
    """
    shape = _shape(batch)
    first = batch.shape[1] == channels
    last = batch.shape[3] == channels
    if first == last:
        what = "may be" if first else "are neither"
        raise ModelError(
            f"{name_rows(ids)}: images of shape {shape} {what} ({channels}, height, width) {'or' if first else 'nor'} "
            f"(height, width, {channels}), as {name} takes them. --preprocess module:function can give the model's own "
            "input"
        )
    return last


def open_files(files: FileList, ids: Sequence[int]) -> "list[Image.Image]":
    """Decode image files: upright, RGB, each in its own size.

    Raises:
        InputError: a file is not an image, is damaged, or has more than 8 bits a channel; the first such file.
        MemoryShortage: the images are too many to be held at once.
        UsageError: Pillow is missing.
    """
    import_extra("PIL", "decoding images", "images")
    contents = [file.numpy().tobytes() for file in files]
    if why := too_much_for_a_batch(sum(map(pixels_of, contents)), ids):
        raise MemoryShortage(why)
    return in_threads(lambda pair: open_image(pair[0], f"row {pair[1]}"), list(zip(contents, ids, strict=True)))


def as_pictures(batch: torch.Tensor, channels_last: bool) -> "list[Image.Image]":
    """Make Pillow images from uint8 pixels `(batch, ...)` with one channel or three.

    Raises:
        UsageError: Pillow is missing.
    """
    import_extra("PIL", "preparing images", "images")
    from PIL import Image

    pixels = (batch if channels_last else batch.permute(0, 2, 3, 1)).numpy()
    return [Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[2] == 1 else image)) for image in pixels]


def _shape(batch: Any) -> tuple[int, ...] | str:
    return tuple(batch.shape[1:]) if isinstance(batch, torch.Tensor) else "(length,)"
