"""Bands and pages of TIFF files that an RGB image cannot show: they are refused, not dropped or blended."""

from typing import TYPE_CHECKING, Any

from runner.core.errors import InputError
from runner.core.text import plural

if TYPE_CHECKING:
    from PIL import Image

_SUBFILE = 254
_PHOTOMETRIC = 262
_SAMPLES = 277
_EXTRA_SAMPLES = 338
_GEOGRAPHY = (33550, 34264, 34735)  # scale, transformation, keys of GeoTIFF
_COLORS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # by photometric interpretation
_OPACITY = ((1,), (2,))  # associated with the colors, or not
_REDUCED_OR_MASK = 0b101
_ADVICE = "Save it as RGB or gray, or its bands as an array (.npy, .zarr)"


def check_bands(image: "Image.Image", what: str) -> None:
    """Raise InputError where an image has several pages, or bands that are neither colors nor opacity."""
    if image.format != "TIFF":
        return
    tags: Any = getattr(image, "tag_v2", {})
    samples = int(tags.get(_SAMPLES, 1))
    extra = samples - _COLORS.get(tags.get(_PHOTOMETRIC, 1), samples)
    meanings = tags.get(_EXTRA_SAMPLES, ())
    if extra > 0 and (extra > 1 or tuple(meanings) not in _OPACITY):
        raise InputError(f"{what} has {samples} bands, {extra} of them neither a color nor an opacity. {_ADVICE}")
    if extra > 0 and any(tag in tags for tag in _GEOGRAPHY):
        raise InputError(
            f"{what} is a GeoTIFF of {samples} bands, whose last may be an opacity or a band of its own. {_ADVICE}"
        )


def check_pages(image: "Image.Image", what: str) -> None:
    """Raise InputError where a TIFF has several pages, apart from smaller copies and masks; its pages are visited."""
    if image.format != "TIFF" or (count := getattr(image, "n_frames", 1)) == 1:
        return
    pages = 0
    for page in range(count):
        image.seek(page)
        pages += not int(getattr(image, "tag_v2", {}).get(_SUBFILE, 0)) & _REDUCED_OR_MASK
    image.seek(0)
    if pages > 1:
        raise InputError(f"{what} has {plural(pages, 'page')}, and a row is one image. Save each as a file of its own")
