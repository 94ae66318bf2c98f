"""A photo, a map and its crop for tests of drawing."""

from __future__ import annotations

import numpy as np

from camcli.images.geometry import Crop

SHAPE = (60, 120)
"""The photo's (H,W)."""
CROP = Crop(40, 10, 80, 50)


def constant_photo() -> np.ndarray:
    return np.full((*SHAPE, 3), (200, 100, 50), np.uint8)


def hot_corner() -> np.ndarray:
    """Return a map that is 3 in its upper left corner and 0 elsewhere."""
    values = np.zeros((4, 4), np.float32)
    values[0, 0] = 3
    return values
