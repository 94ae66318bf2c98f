"""Types of images, maps, sizes and boxes, and the places of crops and map cells in an original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]
"""An RGB image (H,W,3), values from 0 to 255."""

MapArray: TypeAlias = NDArray[np.float32]
"""A map (h,w), or an image of signed gradients (3,H,W)."""

Floats: TypeAlias = NDArray[np.float64]

Size: TypeAlias = tuple[int, int]
"""Width and height in pixels. An array's shape (H,W) is never called a size."""

Box: TypeAlias = tuple[float, float, float, float]
"""The corners x0, y0, x1, y1 in pixels; x1 and y1 are exclusive."""

PixelBox: TypeAlias = tuple[int, int, int, int]
"""A Box in whole pixels."""


class Centres(NamedTuple):
    """The centres of a map's cells in pixels, whose edges are at whole numbers.

    Row i and column j have their centre at `(x + j dx, y + i dy)`. `spread` is how far a centre may
    be off, in cells, where branches of the network look at different places.
    """

    x: float
    y: float
    dx: float
    dy: float
    spread: float = 0.0

    @classmethod
    def of_parts(cls, shape: Sequence[int], box: Box) -> Centres:
        """Return the centres where a map of `shape` (h,w) divides a box into equal parts."""
        dx, dy = (box[2] - box[0]) / shape[-1], (box[3] - box[1]) / shape[-2]
        return cls(box[0] + dx / 2, box[1] + dy / 2, dx, dy)

    def scaled(self, x: float, y: float, x0: float = 0, y0: float = 0) -> Centres:
        """Return the centres after the plane is scaled and then moved by x0 and y0."""
        return Centres(self.x * x + x0, self.y * y + y0, self.dx * x, self.dy * y, self.spread)

    def is_near(self, other: Centres, shape: Sequence[int]) -> bool:
        """Return whether no cell of a map (h,w) is off by a thousandth of the map's side."""
        along_x = self.x - other.x, self.dx - other.dx, self.dx, shape[-1]
        along_y = self.y - other.y, self.dy - other.dy, self.dy, shape[-2]
        return all(
            abs(first + last * growth) <= 1e-3 * abs(step) * count
            for first, growth, step, count in (along_x, along_y)
            for last in (0, count - 1)
        )

    def cells(self, shape: Sequence[int], box: PixelBox) -> tuple[Floats, Floats]:
        """Return where the pixels of a box are in a map (h,w), in cells: rows (H,), columns (W,).

        0 is the centre of the first cell and h - 1 that of the last one. Pixels beyond the
        outermost centres are at these.
        """
        rows = _cells(range(box[1], box[3]), self.y, self.dy, shape[-2])
        columns = _cells(range(box[0], box[2]), self.x, self.dx, shape[-1])
        return rows, columns

    def weights(self, shape: Sequence[int], box: PixelBox) -> tuple[Floats, Floats]:
        """Return the weights of a map's rows (H,h) and columns (W,w) in the pixels of a box.

        Between centres the map is interpolated linearly. Beyond the outermost ones it is constant.
        A map (h,w) becomes `rows @ map @ columns.T`, (H,W).
        """
        rows, columns = self.cells(shape, box)
        return _linear_weights(rows, shape[-2]), _linear_weights(columns, shape[-1])


def placement(centres: Centres | None) -> str:
    """Return what is known of the centres: `centres`, `approximate` or, if None, `equal-parts`."""
    if centres is None:
        return "equal-parts"
    return "approximate" if centres.spread > 0.1 else "centres"


PIXELS = Centres(0.5, 0.5, 1, 1)
"""The centres of the pixels of the plane itself."""


def _cells(pixels: range, start: float, step: float, count: int) -> Floats:
    return np.clip((np.asarray(pixels, np.float64) + 0.5 - start) / step, 0, count - 1)


def _linear_weights(cells: Floats, count: int) -> Floats:
    """Return the weights (n,count) of `count` cells at n places in cells."""
    return np.asarray((1 - np.abs(cells[:, None] - np.arange(count))).clip(min=0))


@dataclass(frozen=True)
class Crop:
    """The part of an image that the network saw, in original pixels; x1 and y1 are exclusive.

    `exact` are the corners before they were rounded to whole pixels, if they were.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    exact: Box | None = field(default=None, compare=False, repr=False)

    @property
    def size(self) -> Size:
        """Return the width and height of the crop."""
        return self.x1 - self.x0, self.y1 - self.y0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Return the index of the crop in an array (H,W,...)."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @property
    def box(self) -> PixelBox:
        """The corners."""
        return self.x0, self.y0, self.x1, self.y1

    @property
    def seen(self) -> Box:
        """The corners before rounding."""
        return self.exact or self.box

    def centres(self, shape: Sequence[int]) -> Centres:
        """Return the centres of a map's cells (h,w), in original pixels: those of equal parts."""
        return Centres.of_parts(shape, self.seen)

    def placed(self, centres: Centres | None, size: Size) -> Crop:
        """Return the crop with the centres of a map's cells, given in pixels of the input.

        `size` is the input's. Without centres the cells are equal parts of the crop.
        """
        if centres is None:
            return self
        x, y = self._scale(size)
        cells = centres.scaled(x, y, *self.seen[:2])
        return Placement(*self.box, self.exact, cells=cells)

    def to_input(self, box: Box, size: Size) -> Box:
        """Convert a box from original pixels to pixels of the network's input of this size."""
        (x, y), (left, top) = self._scale(size), self.seen[:2]
        x0, y0, x1, y1 = box
        return (x0 - left) / x, (y0 - top) / y, (x1 - left) / x, (y1 - top) / y

    def to_original(self, box: Box, size: Size) -> Box:
        """Convert a box from pixels of the network's input of this size to original pixels."""
        (x, y), (left, top) = self._scale(size), self.seen[:2]
        x0, y0, x1, y1 = box
        return x0 * x + left, y0 * y + top, x1 * x + left, y1 * y + top

    def _scale(self, size: Size) -> tuple[float, float]:
        """Return the original pixels to a pixel of the input of this size, across and down."""
        x0, y0, x1, y1 = self.seen
        return (x1 - x0) / size[0], (y1 - y0) / size[1]

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
        exact = self.seen[0] * x, self.seen[1] * y, self.seen[2] * x, self.seen[3] * y
        x0, y0, x1, y1 = map(round, exact)
        return Crop(x0, y0, max(x0 + 1, x1), max(y0 + 1, y1), exact)

    def moved(self, x: int, y: int) -> Crop:
        """Return the crop after the image is moved by `x` and `y`, in whole pixels."""
        return Crop(self.x0 + x, self.y0 + y, self.x1 + x, self.y1 + y)


@dataclass(frozen=True)
class Placement(Crop):
    """A crop, and the centres of a map's cells in original pixels."""

    cells: Centres = PIXELS

    def centres(self, shape: Sequence[int]) -> Centres:
        """Return the centres of a map's cells, in original pixels."""
        return self.cells

    def resized(self, x: float, y: float) -> Placement:
        """Return the placement in the image scaled by `x` and `y`."""
        crop = super().resized(x, y)
        return Placement(*crop.box, crop.exact, cells=self.cells.scaled(x, y))

    def moved(self, x: int, y: int) -> Placement:
        """Return the placement after the image is moved by `x` and `y`, in whole pixels."""
        return Placement(*super().moved(x, y).box, cells=self.cells.scaled(1, 1, x, y))
