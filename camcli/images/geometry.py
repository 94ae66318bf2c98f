"""Types of images, maps, sizes and boxes, and the crop of an original that a network saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]
"""An RGB image (H,W,3), values from 0 to 255."""

MapArray: TypeAlias = NDArray[np.float32]
"""A map (h,w), or an image of signed gradients (3,H,W)."""

Size: TypeAlias = tuple[int, int]
"""Width and height in pixels. An array's shape (H,W) is never called a size."""

Box: TypeAlias = tuple[float, float, float, float]
"""The corners x0, y0, x1, y1 in pixels; x1 and y1 are exclusive."""

PixelBox: TypeAlias = tuple[int, int, int, int]
"""A Box in whole pixels."""


@dataclass(frozen=True)
class Crop:
    """The part of an image that the network saw, in original pixels; x1 and y1 are exclusive."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def size(self) -> Size:
        """Return the width and height of the crop."""
        return self.x1 - self.x0, self.y1 - self.y0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Return the index of the crop in an array (H,W,...)."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def to_input(self, box: Box, size: Size) -> Box:
        """Convert a box from original pixels to pixels of the network's input of this size."""
        x, y = size[0] / self.size[0], size[1] / self.size[1]
        x0, y0, x1, y1 = box
        return (x0 - self.x0) * x, (y0 - self.y0) * y, (x1 - self.x0) * x, (y1 - self.y0) * y

    def to_original(self, box: Box, size: Size) -> Box:
        """Convert a box from pixels of the network's input of this size to original pixels."""
        x, y = self.size[0] / size[0], self.size[1] / size[1]
        x0, y0, x1, y1 = box
        return x0 * x + self.x0, y0 * y + self.y0, x1 * x + self.x0, y1 * y + self.y0

    def corners(self, box: Sequence[float] | None, size: Size) -> list[int] | None:
        """Convert a box as `to_original` does and round it to whole pixels.

        Return None if there is no box or all its corners are zero.
        """
        if box is None or not any(box):
            return None
        x0, y0, x1, y1 = box
        return [round(side) for side in self.to_original((x0, y0, x1, y1), size)]

    def resized(self, x: float, y: float) -> Crop:
        """Return the crop of the image scaled by `x` and `y`. It is at least one pixel large."""
        x0, y0 = round(self.x0 * x), round(self.y0 * y)
        return Crop(x0, y0, max(x0 + 1, round(self.x1 * x)), max(y0 + 1, round(self.y1 * y)))
