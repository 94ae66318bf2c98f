"""Boxes around the regions of a map that are above a share of its maximum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from camcli.errors import CamcliError, MethodError, unknown

if TYPE_CHECKING:
    from camcli.methods.registry import Method


Map: TypeAlias = NDArray[np.float32]
"""A map (H,W) in [0, 1]."""


PixelBox: TypeAlias = tuple[int, int, int, int]
"""x0, y0, x1, y1 in whole pixels; x1 and y1 are exclusive."""


BOXES = ("largest", "all")


SHARE = 0.15
"""Of the maximum, above which a map's values are in its box (Grad-CAM, sec. 4.1)."""


SHARES = {"cam": 0.2}
"""Other shares, of the methods whose papers name one (CAM, sec. 3.2)."""


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


def check_boxes(methods: Sequence[Method]) -> None:
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
