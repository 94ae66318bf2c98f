"""How well a map finds objects, and the boxes that a map gives: pure functions of one map.

A map is (H,W), of an image's size, from 0 to 1; `render.placed` makes one of a raw map. Objects are
those of the class that the map explains, in pixels of the same image, and a pixel is in a box if
its middle is. A map without a positive value finds nothing: every measure of it is zero.

OpenCV is imported where it is used, so that the command line can list BOXES at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from camcli.images.geometry import Box, MapArray

if TYPE_CHECKING:
    from camcli.evaluation.annotations import Mask, Object
from camcli.render.boxes import BOX_THRESHOLD, largest_box

_TIE = 1e-6
"""Values that were equal differ by so much when they have been resized."""


def iou(one: Box, other: Box) -> float:
    """The area that two boxes share, of the area that they cover together; 0 to 1."""
    x0, y0, x1, y1 = (*map(max, one[:2], other[:2]), *map(min, one[2:], other[2:]))
    shared = _area((x0, y0, x1, y1))
    return shared / (_area(one) + _area(other) - shared or 1)


def best_iou(values: MapArray, objects: Iterable[Object], share: float = BOX_THRESHOLD) -> float:
    """The IoU of the map's box with that of the object that it meets best; 0 without either."""
    box = largest_box(values, share)
    return max((iou(box, found.box) for found in objects), default=0.0) if box else 0.0


def localised(
    values: MapArray, objects: Sequence[Object], share: float = BOX_THRESHOLD, overlap: float = 0.5
) -> bool:
    """Whether the map's box and an object's have more than half of their union in common.

    The localisation of ILSVRC (Russakovsky et al. 2015, arXiv:1409.0575), its top-1 if the map is
    of the network's best class; without objects of that class the answer is no.
    """
    return best_iou(values, objects, share) > overlap


def pointing(values: MapArray, objects: Sequence[Object], margin: float = 15) -> float:
    """Whether the map's maximum is on an object, or within a margin in pixels of one: 0 or 1.

    The pointing game (Zhang et al. 2018, arXiv:1608.00507, sec. 4.1). Where several pixels are
    highest, it is the share of them that hits, which is what drawing one of them would give on
    average; a map of zeros points nowhere and does not hit.
    """
    import cv2

    found = region(objects, values.shape)
    if values.max(initial=0) <= 0 or not found.any():
        return 0.0
    away = cv2.distanceTransform((~found).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float((away[values >= values.max() - _TIE] <= margin).mean())


def energy(values: MapArray, objects: Sequence[Object]) -> float:
    """The share of the map's sum that lies in the objects' boxes, 0 to 1.

    The energy-based pointing game (Wang et al. 2020, Score-CAM, arXiv:1910.01279).
    """
    inside = values[_boxed(objects, values.shape)].sum(dtype=np.float64)
    return float(inside / (values.sum(dtype=np.float64) or 1))


def loc(values: MapArray, objects: Sequence[Object], delta: float = 0.0) -> float:
    """Area of the map in the boxes / (area of the boxes + its area outside), 0 to 1.

    Its area is where it is above a share delta of its maximum; what several boxes cover counts
    once. Loc(delta) of Grad-CAM++ (Chattopadhay et al. 2018, arXiv:1710.11063).
    """
    above, boxed = values > delta * values.max(initial=0), _boxed(objects, values.shape)
    return float((above & boxed).sum() / ((above | boxed).sum() or 1))


def covered(
    values: MapArray, objects: Iterable[Object], share: float = BOX_THRESHOLD, part: float = 0.5
) -> int:
    """How many objects the map covers: a part of each or more is above a share of its maximum.

    Grad-CAM++ claims to cover all instances of a class (arXiv:1710.11063) without a measure for it;
    this is one. A map that is high everywhere covers all of them: `loc` tells it apart.
    """
    above = values > share * values.max(initial=0)
    areas = [region([one], above.shape) for one in objects]
    return sum(bool(area.any() and above[area].mean() >= part) for area in areas)


def region(objects: Iterable[Object], size: tuple[int, ...]) -> Mask:
    """The pixels of any of the objects, (H,W): of their masks, and boxes where there are none."""
    found = np.zeros(size, bool)
    for one in objects:
        found |= _inside(one.box, size) if one.mask is None else one.mask
    return found


def _boxed(objects: Iterable[Object], size: tuple[int, ...]) -> Mask:
    return region([replace(one, mask=None) for one in objects], size)


def _inside(box: Box, size: tuple[int, ...]) -> Mask:
    y, x = (np.arange(side) + 0.5 for side in size)
    x0, y0, x1, y1 = box
    return np.outer((y >= y0) & (y < y1), (x >= x0) & (x < x1))


def _area(box: Box) -> float:
    return max(0, box[2] - box[0]) * max(0, box[3] - box[1])
