"""Places in the network's frame: shares of heat in them, and their names in words."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from camcli.images.geometry import Floats
from camcli.runs.grids import SIDE

Mask = NDArray[np.bool_]
"""The cells (side,side) of a region."""


def _ring(width: int) -> Mask:
    mask = np.ones((SIDE, SIDE), bool)
    mask[width:-width, width:-width] = False
    return mask


def _corners(side: int) -> Mask:
    edge = np.minimum(np.arange(SIDE), np.arange(SIDE)[::-1]) < side
    return np.asarray(edge[:, None] & edge)


REGIONS: Mapping[str, Mask] = MappingProxyType(
    {"border": _ring(SIDE // 10), "corners": _corners(SIDE // 4), "centre": ~_ring(SIDE // 4)}
)
"""The regions whose shares of heat are measured: the outer tenth along each side, the four corners
of a quarter of the side each, and the middle half."""
AREAS = {name: float(mask.mean()) for name, mask in REGIONS.items()}
"""The area of each region: its share of a map without any pattern."""
SHARES = (*REGIONS, "entropy")
"""What is measured of each map."""


def shares_of(heat: Floats | None) -> dict[str, float]:
    """Return the shares of heat (side,side) in each region, and its entropy; NaN without heat.

    The entropy is that of the cells, `-sum p log p / log(cells)`: 1 for even heat, 0 for one cell.
    """
    if heat is None:
        return dict.fromkeys(SHARES, np.nan)
    shares = {name: float(heat[mask].sum()) for name, mask in REGIONS.items()}
    positive = heat[heat > 0]
    entropy = -float((positive * np.log(positive)).sum()) / np.log(heat.size)
    return shares | {"entropy": entropy}


def place_name(mask: Mask) -> str:
    """Return where a region lies, in words: `top right corner`, `border`, `left edge`, `centre`.

    A region without a part that has most of its cells is `several places`.
    """
    if _is_around(mask):
        return "border"
    if _largest_part(mask) < 0.6 * mask.sum():
        return "several places"
    rows, columns = np.nonzero(mask)
    vertical = _third(rows, ("top", "", "bottom"))
    horizontal = _third(columns, ("left", "", "right"))
    if vertical and horizontal:
        return f"{vertical} {horizontal} corner"
    return f"{vertical or horizontal} edge" if vertical or horizontal else "centre"


def _is_around(mask: Mask) -> bool:
    """Return whether a region lies along at least three sides and hardly in the middle."""
    sides = mask[:, :3], mask[:, -3:], mask[:3], mask[-3:]
    along = sum(bool(side.any(int(side.shape[0] > side.shape[1])).mean() > 0.5) for side in sides)
    return along >= 3 and mask[REGIONS["centre"]].mean() < 0.25


def _largest_part(mask: Mask) -> int:
    """Return the number of cells in the largest connected part."""
    import cv2  # here, since the names of the regions are options of the command

    _, parts = cv2.connectedComponents(mask.astype(np.uint8))
    return int(np.bincount(parts.ravel())[1:].max(initial=0))


def _third(cells: NDArray[np.intp], names: tuple[str, str, str]) -> str:
    return names[min(2, int(3 * (cells.mean() + 0.5) / SIDE))]
