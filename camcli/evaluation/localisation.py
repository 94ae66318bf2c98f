"""How well a map finds objects, and the boxes that a map gives: pure functions of one map.

A map is (H,W), of an image's size, from 0 to 1; `render.placed` makes one of a raw map. Objects are
those of the class that the map explains, in pixels of the same image, and a pixel is in a box if
its middle is. A map without a positive value finds nothing: every measure of it is zero.

OpenCV is imported where it is used, so that the command line can list BOXES at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from camcli.errors import CamcliError, MethodError, unknown
from camcli.images import Box

if TYPE_CHECKING:
    from camcli.annotations import Mask, Object
    from camcli.methods import Method

Map: TypeAlias = NDArray[np.float32]
"""A map (H,W) in [0, 1]."""

PixelBox: TypeAlias = tuple[int, int, int, int]
"""x0, y0, x1, y1 in whole pixels; x1 and y1 are exclusive."""

BOXES = ("largest", "all")
SHARE = 0.15
"""Of the maximum, above which a map's values are in its box (Grad-CAM, sec. 4.1)."""

SHARES = {"cam": 0.2}
"""Other shares, of the methods whose papers name one (CAM, sec. 3.2)."""

_TIE = 1e-6
"""Values that were equal differ by so much when they have been resized."""


@dataclass(frozen=True)
class BoxRule:
    """Which boxes are taken from a map, a name in BOXES, and where they are cut.

    The `threshold` is a share of the map's maximum; None is that of the method's paper.
    """

    which: str = "largest"
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.which not in BOXES:
            raise CamcliError(unknown("choice of boxes", self.which, BOXES))
        if self.threshold is not None and not 0 <= self.threshold < 1:
            raise CamcliError(
                f"box threshold {self.threshold}: expected a share of the map's maximum, "
                "from 0 to less than 1"
            )

    def of(self, values: Map, method: str) -> list[PixelBox]:
        """The boxes that a method's map gives."""
        usual = SHARES.get(method, SHARE)
        found = boxes_of(values, usual if self.threshold is None else self.threshold)
        return found[:1] if self.which == "largest" else found


def check(methods: Sequence[Method]) -> None:
    """Refuse methods whose results have no boxes. Raises MethodError."""
    if images := [method.name for method in methods if method.image]:
        raise MethodError(f"'{images[0]}' gives images, and only maps have boxes: leave it out")


def boxes_of(values: Map, share: float = SHARE) -> list[PixelBox]:
    """A box around each connected region above a share of the map's maximum, the largest first.

    Regions touch at corners too. Of those with as many pixels the one whose box begins higher is
    first, then the one further left.
    """
    import cv2

    above = (values > share * values.max(initial=0)).astype(np.uint8)
    _, _, found, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    regions = sorted((-area, y, x, h, w) for x, y, w, h, area in found[1:].tolist())
    return [(x, y, x + w, y + h) for _, y, x, h, w in regions]  # the first was the background


def box_of(values: Map, share: float = SHARE) -> PixelBox | None:
    """The box around the largest region above a share of the map's maximum, if there is any.

    Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391, sec. 4.1) with a share of 0.15, and CAM
    (Zhou et al. 2016, arXiv:1512.04150, sec. 3.2) with 0.2.
    """
    return next(iter(boxes_of(values, share)), None)


def iou(one: Box, other: Box) -> float:
    """The area that two boxes share, of the area that they cover together; 0 to 1."""
    x0, y0, x1, y1 = (*map(max, one[:2], other[:2]), *map(min, one[2:], other[2:]))
    shared = _area((x0, y0, x1, y1))
    return shared / (_area(one) + _area(other) - shared or 1)


def best_iou(values: Map, objects: Iterable[Object], share: float = SHARE) -> float:
    """The IoU of the map's box with that of the object that it meets best; 0 without either."""
    box = box_of(values, share)
    return max((iou(box, found.box) for found in objects), default=0.0) if box else 0.0


def localised(
    values: Map, objects: Sequence[Object], share: float = SHARE, overlap: float = 0.5
) -> bool:
    """Whether the map's box and an object's have more than half of their union in common.

    The localisation of ILSVRC (Russakovsky et al. 2015, arXiv:1409.0575), its top-1 if the map is
    of the network's best class; without objects of that class the answer is no.
    """
    return best_iou(values, objects, share) > overlap


def pointing(values: Map, objects: Sequence[Object], margin: float = 15) -> float:
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


def energy(values: Map, objects: Sequence[Object]) -> float:
    """The share of the map's sum that lies in the objects' boxes, 0 to 1.

    The energy-based pointing game (Wang et al. 2020, Score-CAM, arXiv:1910.01279).
    """
    inside = values[_boxed(objects, values.shape)].sum(dtype=np.float64)
    return float(inside / (values.sum(dtype=np.float64) or 1))


def loc(values: Map, objects: Sequence[Object], delta: float = 0.0) -> float:
    """Area of the map in the boxes / (area of the boxes + its area outside), 0 to 1.

    Its area is where it is above a share delta of its maximum; what several boxes cover counts
    once. Loc(delta) of Grad-CAM++ (Chattopadhay et al. 2018, arXiv:1710.11063).
    """
    above, boxed = values > delta * values.max(initial=0), _boxed(objects, values.shape)
    return float((above & boxed).sum() / ((above | boxed).sum() or 1))


def covered(values: Map, objects: Iterable[Object], share: float = SHARE, part: float = 0.5) -> int:
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
