"""Blend heat with a photo: the ground, the colours over it, and what the network did not see."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from camcli.images.geometry import Crop, Floats, MapArray, Pixels
from camcli.images.opencv import cv2

LUMA = (0.2126, 0.7152, 0.0722)
"""The shares of red, green and blue in grey (Rec. 709), as in the filters of browsers."""
GROUND = 0.68
"""The brightness of the photo under a map: low heat would look like a shadow on a brighter one."""
SATURATION = 0.5
"""The saturation of the photo under a map."""
UNSEEN = 0.5
"""The brightness of what the network did not see, which is grey."""
FRAME = 190
"""The grey of the line around what the network saw."""


def ground(photo: Pixels) -> Pixels:
    """Return a photo (H,W,3) as it is under a map: half saturated and less bright."""
    return _toned(photo, SATURATION, GROUND)


def unseen(pixels: Pixels, crop: Crop) -> Pixels:
    """Return a picture (H,W,3) in dark grey, with a frame around the crop and nothing in it."""
    drawn = np.empty_like(pixels)
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = crop.box
    for rows, columns in (
        (slice(0, y0), slice(0, width)),
        (slice(y1, height), slice(0, width)),
        (slice(y0, y1), slice(0, x0)),
        (slice(y0, y1), slice(x1, width)),
    ):
        drawn[rows, columns] = _toned(pixels[rows, columns], 0, UNSEEN)
    line = max(1, round(min(height, width) / 500))
    drawn[max(0, y0 - line) : y1 + line, max(0, x0 - line) : x1 + line] = FRAME
    return drawn


def tint(photo: Pixels, levels: Pixels, colours: NDArray[np.uint8], opacity: MapArray) -> Pixels:
    """Draw levels (h,w) from 0 to 255 over a photo (H,W,3), in 256 colours of 256 opacities.

    They are enlarged as colours: most of the work is then done on the few pixels of the levels.
    """
    size = photo.shape[1], photo.shape[0]
    heat = np.rint(colours * opacity[:, None]).astype(np.uint8)
    left = np.rint(255 * (1 - opacity)).astype(np.uint8)
    kept = cv2.multiply(
        photo, cv2.merge([cv2.resize(cv2.LUT(levels, left), size)] * 3), scale=1 / 255
    )
    return np.asarray(cv2.add(kept, cv2.resize(coloured(levels, heat), size)), np.uint8)


def coloured(levels: Pixels, table: NDArray[np.uint8]) -> Pixels:
    """Return the colours (h,w,3) of levels (h,w), by a table (256,3)."""
    return np.asarray(cv2.LUT(cv2.merge([levels] * 3), table[None]), np.uint8)


def _toned(pixels: Pixels, saturation: float, brightness: float) -> Pixels:
    if not pixels.size:
        return pixels
    return np.asarray(cv2.transform(pixels, _tone(saturation, brightness)), np.uint8)


@cache
def _tone(saturation: float, brightness: float) -> Floats:
    """Return the matrix (3,3) that makes RGB less saturated and less bright."""
    grey = np.outer(np.ones(3), LUMA) * (1 - saturation)
    return np.asarray(brightness * (grey + saturation * np.eye(3)))
