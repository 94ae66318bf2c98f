"""Boxes around the connected regions of a map above a threshold.

OpenCV is imported only where it is used, so that `camcli --help` can list BOXES without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from camcli.errors import CamcliError, MethodError, unknown
from camcli.images.geometry import MapArray, PixelBox

if TYPE_CHECKING:
    from camcli.methods.registry import Method

BOXES = ("largest", "all")

BOX_THRESHOLD = 0.15
"""The default threshold as a fraction of the map's maximum (Grad-CAM, sec. 4.1)."""

BOX_THRESHOLDS = {"cam": 0.2}
"""The thresholds of methods whose papers state another one (CAM, sec. 3.2)."""


@dataclass(frozen=True)
class BoxRule:
    """A choice of boxes: `which` is a name in BOXES, `threshold` a fraction of the map's maximum.

    If `threshold` is None, each method uses the threshold of its paper.
    """

    which: str = "largest"
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.which not in BOXES:
            raise CamcliError(unknown("choice of boxes", self.which, BOXES))
        if self.threshold is not None and not 0 <= self.threshold < 1:
            raise CamcliError(
                f"box threshold {self.threshold}: expected a fraction of the map's maximum, "
                "from 0 to less than 1"
            )

    def find(self, values: MapArray, method: str) -> list[PixelBox]:
        """Return the boxes of a method's map (H,W) in [0, 1], the largest first."""
        default = BOX_THRESHOLDS.get(method, BOX_THRESHOLD)
        found = find_boxes(values, default if self.threshold is None else self.threshold)
        return found[:1] if self.which == "largest" else found


def check_boxes(methods: Sequence[Method]) -> None:
    """Raise MethodError if one of the methods gives images, which have no boxes."""
    if images := [method.name for method in methods if method.image]:
        raise MethodError(f"'{images[0]}' gives images, and only maps have boxes: leave it out")


def find_boxes(values: MapArray, threshold: float = BOX_THRESHOLD) -> list[PixelBox]:
    """Return a box around each connected region of a map (H,W), the largest region first.

    A region consists of adjacent pixels, diagonals included, whose values are above `threshold`
    times the map's maximum. Regions of equal area are ordered by the top, then the left of their
    boxes.
    """
    import cv2

    above = (values > threshold * values.max(initial=0)).astype(np.uint8)
    _, _, found, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    _, *components = found.tolist()  # the first one is the background
    regions = sorted((-area, y, x, h, w) for x, y, w, h, area in components)
    return [(x, y, x + w, y + h) for _, y, x, h, w in regions]


def largest_box(values: MapArray, threshold: float = BOX_THRESHOLD) -> PixelBox | None:
    """Return the box around the largest region of a map, or None if there is no region.

    Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391, sec. 4.1) uses a threshold of 0.15, CAM
    (Zhou et al. 2016, arXiv:1512.04150, sec. 3.2) one of 0.2.
    """
    return next(iter(find_boxes(values, threshold)), None)
