"""Pixel arrays, boxes and the crop of an original that a network saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""An RGB image, (H,W,3), 0 to 255."""


Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels; x1 and y1 are exclusive."""


Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class Crop:
    """The part of an image that the network saw, in original pixels; x1 and y1 are exclusive."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The crop as an index into an array (H,W,...)."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def inward(self, box: Box, size: tuple[int, int]) -> Box:
        """A box in original pixels in those of the input, which is `size` (width, height) large."""
        x, y = size[0] / (self.x1 - self.x0), size[1] / (self.y1 - self.y0)
        x0, y0, x1, y1 = box
        return (x0 - self.x0) * x, (y0 - self.y0) * y, (x1 - self.x0) * x, (y1 - self.y0) * y

    def outward(self, box: Box, size: tuple[int, int]) -> Box:
        """A box in pixels of the input, which is `size` (width, height) large, in original ones."""
        x, y = (self.x1 - self.x0) / size[0], (self.y1 - self.y0) / size[1]
        x0, y0, x1, y1 = box
        return x0 * x + self.x0, y0 * y + self.y0, x1 * x + self.x0, y1 * y + self.y0

    def corners(self, box: Sequence[float] | None, size: tuple[int, int]) -> list[int] | None:
        """The same in whole pixels, as `x0, y0, x1, y1`; None for no box, or one of nothing."""
        if box is None or not any(box):
            return None
        x0, y0, x1, y1 = box
        return [round(side) for side in self.outward((x0, y0, x1, y1), size)]

    def resized(self, x: float, y: float) -> Crop:
        """The crop of an image that is made so much wider and higher; a pixel at least."""
        x0, y0 = round(self.x0 * x), round(self.y0 * y)
        return Crop(x0, y0, max(x0 + 1, round(self.x1 * x)), max(y0 + 1, round(self.y1 * y)))
