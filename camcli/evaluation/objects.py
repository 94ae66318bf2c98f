"""Annotated objects: boxes and masks in pixels of the upright image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from camcli.errors import AnnotationError
from camcli.images.geometry import Box

Mask: TypeAlias = NDArray[np.bool_]
"""The pixels that belong to an object, (H,W)."""

Shape: TypeAlias = tuple[int, int]
"""Height and width of an upright image, as in an array's shape."""


@dataclass(frozen=True)
class Object:
    """An object: its class as the annotation has it, a name or an index, and its box.

    `mask` is its filled outline, if the annotation has one. `difficult` is Pascal VOC's mark for
    objects that its protocols leave out.
    """

    label: str
    box: Box
    mask: Mask | None = None
    difficult: bool = False


def polygon_mask(outline: Sequence[tuple[float, float]], shape: Shape) -> Mask:
    """Return the pixels (H,W) whose centre lies inside of a polygon of points x, y, by even-odd."""
    rows, columns = (np.arange(side) + 0.5 for side in shape)
    mask = np.zeros(shape, bool)
    for (x0, y0), (x1, y1) in pairwise([*outline, outline[0]]):
        # Each edge inverts all pixels to the left of it, in the rows that it crosses.
        crossed = slice(*np.searchsorted(rows, sorted((y0, y1))))
        if y0 != y1:
            at = x0 + (rows[crossed] - y0) * (x1 - x0) / (y1 - y0)
            mask[crossed] ^= columns < at[:, None]
    return mask


def mask_box(mask: Mask) -> Box:
    """Return the smallest box around a mask."""
    (y0, y1), (x0, x1) = (np.flatnonzero(mask.any(axis))[[0, -1]].tolist() for axis in (1, 0))
    return x0, y0, x1 + 1, y1 + 1


def clip_box(box: Box, shape: Shape, where: str) -> Box:
    """Return the part of a box inside of the image, since tools round beyond the edge.

    Raises AnnotationError, with `where` as the place, if nothing is left.
    """
    height, width = shape
    x0, y0, x1, y1 = max(0, box[0]), max(0, box[1]), min(width, box[2]), min(height, box[3])
    if x0 >= x1 or y0 >= y1:
        given = ",".join(f"{side:g}" for side in box)
        raise AnnotationError(
            f"{where}: box {given} is empty or outside of the image of {width} x {height} pixels"
        )
    return x0, y0, x1, y1
