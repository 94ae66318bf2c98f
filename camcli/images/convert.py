"""Convert Pillow images to upright arrays of 8 bits."""

from __future__ import annotations

import warnings
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, ImageSequence

from camcli.errors import CamcliWarning, ImageError
from camcli.images import levels
from camcli.images.geometry import Pixels
from camcli.images.levels import Levels

_BANDS = ("L", "LA", "RGB", "RGBA", "CMYK")
"""The modes of Pillow whose bands are channels of 8 bits."""
DEEP = (
    "its pages have more than 8 bits, and one range must hold for all of them: expected "
    "--window-level C,W"
)


def to_rgb(image: Image.Image) -> Pixels:
    """Convert a Pillow image as `read` does, with the same warnings."""
    return np.asarray(warned(*rgb_of(image, None))[0])


def rgb_of(
    image: Image.Image, window_level: tuple[float, float] | None
) -> tuple[Image.Image, Levels | None, str | None]:
    """Return an image in RGB, its levels and a warning, if there is one.

    Raises ImageError for colours of 16 bits with a window, or with 12 bits in use. Pillow reads the
    upper 8 of them.
    """
    depth = levels.depth_of(image)
    if depth.colours and window_level:
        raise ImageError("--window-level is for grey values, and it has colours of 16 bits")
    upright = _upright(image)
    if levels.is_grey(upright):
        grey, found, guessed = levels.to_8_bits(upright, depth, window_level)
        colours = Image.fromarray(grey).convert("RGB")
        return colours, found, levels.GUESSED if guessed else None
    colours = _converted(upright)
    if not depth.colours:
        return colours, None, None
    brightest = np.asarray(colours).max(initial=0)
    if 0 < brightest < 16:
        raise ImageError(levels.BLACK)
    return colours, levels.SIXTEEN, levels.DARK if brightest < 64 else None


def warned(
    image: Image.Image, found: Levels | None, warning: str | None
) -> tuple[Image.Image, Levels | None]:
    if warning:
        warnings.warn(warning, CamcliWarning, stacklevel=3)
    return image, found


def to_bands(
    image: Image.Image, channels: int, window_level: tuple[float, float] | None = None
) -> Pixels:
    """Convert a Pillow image to the bands (H,W,C) that `read` returns. Raises ImageError.

    Pages of more than 8 bits have the range of `window_level`, a centre and a width.
    """
    if channels in (1, 3):
        return to_rgb(image)
    size, frames = image.size, islice(ImageSequence.Iterator(image), channels + 1)
    pages = [_bands_of(page, window_level) if page.size == size else None for page in frames]
    found = [page for page in pages if page is not None]
    stacked = np.dstack(found) if len(found) == len(pages) else None
    if stacked is None or stacked.shape[2] != channels:
        if len(pages) == channels and levels.is_grey(image) and not window_level:
            raise ImageError(DEEP)
        count = len(image.getbands())
        bands = f"{count} channels" if len(pages) == 1 else f"{getattr(image, 'n_frames', 1)} pages"
        raise ImageError(f"it has {bands}, and the network takes {channels} channels")
    return stacked


def _bands_of(
    page: Image.Image, window_level: tuple[float, float] | None
) -> NDArray[np.uint8] | None:
    """Return the bands of a page as (H,W) or (H,W,C), None if it has no range of 8 bits."""
    upright = _upright(page)
    if levels.is_grey(upright) and window_level:
        return levels.to_8_bits(upright, levels.Depth(), window_level)[0]
    return np.asarray(upright) if upright.mode in _BANDS else None


def _upright(image: Image.Image) -> Image.Image:
    """Return an image as its EXIF orientation says. `exif_transpose` alone would copy each one."""
    image.load()
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
    return ImageOps.exif_transpose(image) if turned else image


def _converted(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
