"""The metrics that compare a map with the annotated objects of its class.

Each is a pure function of one map (H,W) of the photo's size and of the objects of its class, in
pixels of the same photo. The map is in [0, 1] and 0 outside of the crop that the network sees;
`render.draw.placed` makes it of a raw map. A pixel lies in a box if its centre does. A map without
a positive value scores 0.

OpenCV is imported where it is used, so that the command line lists the metrics without delay.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from camcli.evaluation.registry import GRAD_CAM_PP, register_metric
from camcli.images.geometry import Box, MapArray
from camcli.render.boxes import BOX_THRESHOLD, largest_box

if TYPE_CHECKING:
    from camcli.evaluation.objects import Mask, Object

_TIE = 1e-6
"""The largest difference that resizing makes between equal values."""

_register = partial(register_metric, better="higher", default=True)


@_register("pointing", source="Zhang et al. 2018, arXiv:1608.00507", class_mean=True)
def pointing(photo_map: MapArray, objects: Sequence[Object], margin: float = 15) -> float:
    """Pointing game: whether the map's maximum is on an object of the class.

    A maximum within `margin` pixels of an object is a hit. If several pixels are highest, the
    result is the share of them that hit, the expected value of drawing one of them. Sec. 4.1;
    0 to 1
    """
    import cv2

    found = region(objects, photo_map.shape)
    if photo_map.max(initial=0) <= 0 or not found.any():
        return 0.0
    away = cv2.distanceTransform((~found).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float((away[photo_map >= photo_map.max() - _TIE] <= margin).mean())


@_register("energy", source="Wang et al. 2020 (Score-CAM), arXiv:1910.01279")
def energy(photo_map: MapArray, objects: Sequence[Object]) -> float:
    """Energy pointing: the share of the map's sum that lies in the boxes of the class.

    A constant map has the boxes' share of the image. 0 to 1
    """
    inside = photo_map[_boxed(objects, photo_map.shape)].sum(dtype=np.float64)
    return float(inside / (photo_map.sum(dtype=np.float64) or 1))


def loc(photo_map: MapArray, objects: Sequence[Object], delta: float = 0.0) -> float:
    """Compute Loc(delta): the map's area in the boxes / (the boxes' area + its area outside).

    The map's area is where it is above `delta` of its maximum. Overlapping boxes count once. 0 to
    1; Grad-CAM++ (Chattopadhay et al. 2018, arXiv:1710.11063).
    """
    above = photo_map > delta * photo_map.max(initial=0)
    boxed = _boxed(objects, photo_map.shape)
    return float((above & boxed).sum() / ((above | boxed).sum() or 1))


@_register("loc-0", source=GRAD_CAM_PP)
def loc_0(photo_map: MapArray, objects: Sequence[Object]) -> float:
    """Loc(0): the map's area in the boxes, relative to the boxes and its area outside.

    The map's area is where it is positive. 0 to 1
    """
    return loc(photo_map, objects, 0.0)


@_register("loc-0.25", source=GRAD_CAM_PP)
def loc_25(photo_map: MapArray, objects: Sequence[Object]) -> float:
    """Loc(0.25): the same for the area above a quarter of the map's maximum.

    0 to 1
    """
    return loc(photo_map, objects, 0.25)


@_register("loc-0.5", source=GRAD_CAM_PP)
def loc_50(photo_map: MapArray, objects: Sequence[Object]) -> float:
    """Loc(0.5): the same for the area above half of the map's maximum.

    0 to 1
    """
    return loc(photo_map, objects, 0.5)


@_register("iou", source="Selvaraju et al. 2017, arXiv:1610.02391")
def best_iou(
    photo_map: MapArray, objects: Iterable[Object], box_threshold: float = BOX_THRESHOLD
) -> float:
    """IoU: the overlap of the map's box with the best fitting object of the class.

    The map's box surrounds its largest region above a share of its maximum. 0 to 1; 0 if there is
    no box or no object.
    """
    box = largest_box(photo_map, box_threshold)
    return max((iou(box, one.box) for one in objects), default=0.0) if box else 0.0


@_register("localised", source="Russakovsky et al. 2015, arXiv:1409.0575", top1="top1")
def localised(
    photo_map: MapArray,
    objects: Sequence[Object],
    box_threshold: float = BOX_THRESHOLD,
    overlap: float = 0.5,
) -> bool:
    """Localisation: whether the IoU is above 0.5, ILSVRC's criterion.

    ILSVRC's top-1 localisation also counts images whose prediction is another class, as False.
    """
    return best_iou(photo_map, objects, box_threshold) > overlap


def covered(
    photo_map: MapArray,
    objects: Iterable[Object],
    box_threshold: float = BOX_THRESHOLD,
    part: float = 0.5,
) -> int:
    """Count the objects of which at least a part is above a share of the map's maximum.

    Grad-CAM++ claims to cover all instances of a class (arXiv:1710.11063) but has no measure for
    it. A constant map covers every object.
    """
    above = photo_map > box_threshold * photo_map.max(initial=0)
    areas = [region([one], above.shape) for one in objects]
    return sum(bool(area.any() and above[area].mean() >= part) for area in areas)


@_register("covered", source="after Chattopadhay et al. 2018, arXiv:1710.11063", compared=False)
def covered_share(photo_map: MapArray, objects: Sequence[Object], box_threshold: float) -> float:
    """Covered: the share of the objects of the class that the map covers at least by half.

    A constant map covers all of them: read it beside Loc. 0 to 1
    """
    return covered(photo_map, objects, box_threshold) / len(objects)


def iou(one: Box, other: Box) -> float:
    """Compute the intersection of two boxes divided by their union, 0 to 1."""
    x0, y0, x1, y1 = (*map(max, one[:2], other[:2]), *map(min, one[2:], other[2:]))
    shared = _box_area((x0, y0, x1, y1))
    return shared / (_box_area(one) + _box_area(other) - shared or 1)


def region(objects: Iterable[Object], shape: tuple[int, ...]) -> Mask:
    """Return the pixels (H,W) of any of the objects: of their masks, or else of their boxes."""
    found = np.zeros(shape, bool)
    for one in objects:
        found |= _box_mask(one.box, shape) if one.mask is None else one.mask
    return found


def _boxed(objects: Iterable[Object], shape: tuple[int, ...]) -> Mask:
    return region([replace(one, mask=None) for one in objects], shape)


def _box_mask(box: Box, shape: tuple[int, ...]) -> Mask:
    y, x = (np.arange(side) + 0.5 for side in shape)
    x0, y0, x1, y1 = box
    return np.outer((y >= y0) & (y < y1), (x >= x0) & (x < x1))


def _box_area(box: Box) -> float:
    return max(0, box[2] - box[0]) * max(0, box[3] - box[1])
