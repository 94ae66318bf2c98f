"""Show values of more than 8 bits: which range of them is drawn from black to white.

Images of 8 bits are shown as they are. A file of integers of 16 or 32 bits or of floats rarely says
which values are black and white, and 12-bit values in a 16-bit file would be nearly black. The
range of grey values is, in this order:

1. that of `--window-level C,W`, from C - W/2 to C + W/2, as DICOM's function LINEAR_EXACT;
2. the range that the file states: PGM and JPEG 2000 do, and a TIFF of 12 bits;
3. the smallest of 0 to 1 (floats alone), 0 to 255 and 0 to 65535 that holds all values, if the
   largest value is in its upper half;
4. from the least to the largest value, as viewers of DICOM show an image without a window. This is
   a guess.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Levels: TypeAlias = tuple[float, float]
"""The values that are drawn black and white."""

GUESSED = (
    "grey values of more than 8 bits that do not fill a usual range are shown from the least to "
    "the largest of the image (levels in the manifest): --window-level C,W sets the range"
)
DARK = (
    "an image with colours of 16 bits uses less than a quarter of their range, and is shown as "
    "dark as that: expected colours that fill 16 bits, or colours of 8 bits"
)
BLACK = (
    "its colours of 16 bits are all below 4096, as those of 12 bits, and would be nearly black: "
    "expected colours that fill 16 bits, or colours of 8 bits"
)
SIXTEEN = (0.0, 65535.0)

_USUAL = (1.0, 255.0, 65535.0)
_SCALED = ("PPM", "JPEG2000")
"""Formats that state their largest value. Pillow scales their values to 65535."""
_BITS, _PHOTOMETRIC = 258, 262
"""Tags of TIFF: the bits of each value, and 0 where the least value is white."""


@dataclass(frozen=True)
class Depth:
    """The range of values that a file states, if it does, and whether the least value is white.

    `colours` is true for colours or an alpha channel of 16 bits, of which Pillow reads the upper 8.
    """

    stated: Levels | None = None
    inverted: bool = False
    colours: bool = False


def is_grey(image: Image.Image) -> bool:
    """Return whether an image has one channel of more than 8 bits."""
    return image.mode == "F" or image.mode.startswith("I")


def depth_of(image: Image.Image) -> Depth:
    """Return the depth of an open file. It has to be asked before the file is loaded."""
    if not is_grey(image):
        modes = (str(tile[3]) for tile in getattr(image, "tile", ()))
        return Depth(colours=any(";16" in mode for mode in modes))
    tags = getattr(image, "tag_v2", {})
    stated = SIXTEEN if image.format in _SCALED and image.mode != "F" else None
    if tags.get(_BITS) == (12,):
        stated = (0.0, 4095.0)
    return Depth(stated, inverted=tags.get(_PHOTOMETRIC) == 0)


def to_8_bits(
    image: Image.Image, depth: Depth, window: Levels | None
) -> tuple[NDArray[np.uint8], Levels, bool]:
    """Return the grey pixels (H,W) of an image for which `is_grey` holds, and their levels.

    Also return whether the levels are a guess. `window` is a centre and a width. The transparent
    value, if the image has one, becomes white.
    """
    values = np.asarray(image)
    levels, guessed = _levels(values, depth.stated, window)
    pixels = _scaled(values, *levels)
    if depth.inverted:
        np.subtract(255, pixels, out=pixels)
    if isinstance(clear := image.info.get("transparency"), int):
        pixels[values == clear] = 255
    return pixels, levels, guessed


def _levels(
    values: NDArray[Any], stated: Levels | None, window: Levels | None
) -> tuple[Levels, bool]:
    if window:
        centre, width = window
        return (centre - width / 2, centre + width / 2), False
    if stated:
        return stated, False
    finite = values if values.dtype.kind != "f" else values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    usual = _USUAL if values.dtype.kind == "f" else _USUAL[1:]
    top = next((top for top in usual if high <= top), math.inf)
    return ((0.0, top), False) if low >= 0 and high > top / 2 else ((low, high), True)


def _scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Scale values to 0 to 255. NaN is black, and so is an image of one value."""
    exact = values.dtype.itemsize == 2 or (values.dtype.kind == "f" and high - low < 1e30)
    scaled: NDArray[Any] = values.astype(np.float32 if exact else np.float64)
    np.nan_to_num(scaled, copy=False, nan=low, posinf=high, neginf=low)
    np.subtract(scaled, low, out=scaled)
    np.divide(scaled, (high - low) or 1.0, out=scaled)
    np.multiply(scaled, 255, out=scaled)
    return scaled.clip(0, 255, out=scaled).astype(np.uint8)
