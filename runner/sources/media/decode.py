"""Decoding of image files to pixels: upright, RGB, at a requested size; by Pillow."""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from runner.core.errors import InputError, UsageError, describe
from runner.core.text import byte_size
from runner.data.rows import name_rows
from runner.sources.media.bands import check_bands, check_pages

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # no others: Pillow would run programs for some
_ORIENTATION = 0x0112  # tag of EXIF
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}

Size = tuple[int, int]  # height, width
Made = TypeVar("Made")

_BATCH_BYTES = 4 << 30  # the most decoded bytes of the images of one batch
_CHANNELS = 3


def size_of(text: str, what: str) -> Size:
    """Parse height and width from `HEIGHTxWIDTH`, or from one number for a square.

    Raises:
        UsageError: the text is neither.
    """
    match = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text, re.ASCII)
    if not match:
        raise UsageError(f"{what}: {text!r} is not an image size; give HEIGHTxWIDTH, such as 224x224, or one number")
    return int(match[1]), int(match[2] or match[1])


def decode(content: bytes, size: Size | None, what: str) -> np.ndarray:
    """Decode an image file; the first frame of an animation.

    The image is turned by its EXIF orientation. Transparent pixels are laid on white; 16-bit gray is scaled to 8 bits.

    Args:
        content: bytes of the file, from which its format is detected.
        size: the image is scaled to cover this size, and its middle is cut out; None leaves it as it is.
        what: the file, for messages.

    Returns:
        RGB, uint8 `(height, width, 3)`, possibly read-only.

    Raises:
        InputError: it is no image, damaged, of more than `PIL.Image.MAX_IMAGE_PIXELS`, or of numbers without a known
            range.
    """

    def pixels(image: "Image.Image") -> np.ndarray:
        image = _as_rgb(image, what)
        return np.asarray(_cover(image, size, what) if size else image)

    return _opened(content, what, pixels)


def open_image(content: bytes, what: str) -> "Image.Image":
    """Open an image file as model libraries do: upright, converted to RGB, with its transparency dropped.

    Args:
        content: bytes of the file, from which its format is detected.
        what: the file, for messages.

    Raises:
        InputError: see `decode`; or it has more than 8 bits a pixel, which Pillow would clip.
    """

    def to_rgb(image: "Image.Image") -> "Image.Image":
        if image.mode.startswith(("I", "F")):
            raise InputError(
                f"{what} has more than 8 bits a pixel, which Pillow would cut off at 255. Save it with 8 bits"
            )
        return image.convert("RGB")

    return _opened(content, what, to_rgb)


def pixels_of(content: bytes) -> int:
    """Return the number of pixels of an image file, from its header; 0 where it cannot be opened."""
    from PIL import Image

    _silence_warning()
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as file:
            return file.width * file.height
    except Exception:  # whoever decodes it says why
        return 0


def too_much_for_a_batch(pixels: int, rows: Sequence[int]) -> str:
    """Return why the images of one batch would take too much memory together; empty where they would not.

    Args:
        pixels: number of pixels of all images.
        rows: the row numbers.
    """
    num_bytes = pixels * _CHANNELS
    if num_bytes <= _BATCH_BYTES or len(rows) == 1:
        return ""
    return (
        f"{name_rows(rows)} are images of {byte_size(num_bytes)} when decoded, and at most {byte_size(_BATCH_BYTES)} "
        "are held at once. Use a smaller --batch-size"
    )


def _silence_warning() -> None:
    """Keep Pillow from warning of large images on the terminal: they are errors here."""
    from PIL import Image

    first = next(iter(warnings.filters), None)  # the first that fits counts
    if first is None or (first[0], first[2]) != ("ignore", Image.DecompressionBombWarning):
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def _check_size(file: "Image.Image", what: str) -> None:
    from PIL import Image

    if Image.MAX_IMAGE_PIXELS and file.width * file.height > Image.MAX_IMAGE_PIXELS:
        raise _too_large(what)


def _too_large(what: str) -> InputError:
    from PIL import Image

    return InputError(
        f"{what} is an image of more than {Image.MAX_IMAGE_PIXELS:,} pixels, the most that are decoded. Save it "
        "smaller, or cut it into several; from Python, PIL.Image.MAX_IMAGE_PIXELS can be set higher"
    )


def _opened(content: bytes, what: str, make: Callable[["Image.Image"], Made]) -> Made:
    """Return the result of `make` for an upright image file; raise InputError where it cannot be read."""
    from PIL import Image, UnidentifiedImageError

    _silence_warning()
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as file:
            _check_size(file, what)
            check_bands(file, what)
            check_pages(file, what)
            file.load()
            return make(_upright(file))
    except InputError:
        raise
    except UnidentifiedImageError as error:
        problem = f"no image in one of the formats {', '.join(_FORMATS)}" if content else "empty"
        raise InputError(f"{what} is {problem}") from error
    except Image.DecompressionBombError as error:  # of twice as many pixels
        raise _too_large(what) from error
    except Exception as error:  # a damaged image raises one of many exception types
        raise InputError(f"{what} cannot be decoded: {describe(error)}") from error


def _upright(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # EXIF may be damaged where the image is not
        turn = None
    return image.transpose(Image.Transpose[turn]) if turn else image


def _as_rgb(image: "Image.Image", what: str) -> "Image.Image":
    from PIL import Image

    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        return _scaled_gray(image, what)
    if image.mode == "F":
        raise InputError(
            f"{what} holds floating-point numbers, of a range that is not known. Save it with 8 or 16 bits"
        )
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _scaled_gray(image: "Image.Image", what: str) -> "Image.Image":
    """Scale 16-bit gray to 8-bit RGB; Pillow itself would clip it above 255."""
    from PIL import Image

    levels: np.ndarray[Any, Any] = np.asarray(image).astype(np.int64)
    if levels.size and (levels.min() < 0 or levels.max() > 0xFFFF):
        raise InputError(f"{what} holds numbers {levels.min()}..{levels.max()}. Save it with 8 or 16 bits, from 0 on")
    gray = ((levels + 128) // 257).astype(np.uint8)
    if isinstance(transparent := image.info.get("transparency"), int):
        gray[levels == transparent] = 255
    return Image.fromarray(gray).convert("RGB")


def _cover(image: "Image.Image", size: Size, what: str) -> "Image.Image":
    """Scale an image, its proportions kept, until it just covers the size, and cut out the middle."""
    from PIL import Image

    height, width = size
    if width * image.height >= height * image.width:
        scaled = width, width * image.height // image.width
    else:
        scaled = height * image.width // image.height, height
    if Image.MAX_IMAGE_PIXELS and scaled[0] * scaled[1] > max(Image.MAX_IMAGE_PIXELS, height * width):
        raise InputError(f"{what} is {image.height}x{image.width}, too long and thin to be made {height}x{width}")
    if scaled != image.size:
        image = image.resize(scaled, Image.Resampling.BILINEAR)  # with antialiasing
    if scaled == (width, height):
        return image
    left = round((scaled[0] - width) / 2)
    top = round((scaled[1] - height) / 2)
    return image.crop((left, top, left + width, top + height))
