"""Saved maps on a common grid: heat at the same places, whatever the resolution of the layer.

Maps of several images, methods or networks can thus be added up and compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from camcli.images.geometry import Box, Centres, Crop, Floats, Placement
from camcli.runs.manifest import Row
from camcli.runs.maps import FloatMap

SIDE = 20
"""The rows, and the columns, of a grid."""
_SAMPLES = 16
"""The places in a cell of the grid, along each side, whose mean is taken."""


def crop_of(row: Row) -> Crop | None:
    """Return the crop of a row, with the centres of the map's cells if the row has them."""
    corners, cells = row.get("crop") or (), row.get("cells") or ()
    if not corners or corners[0] >= corners[2] or corners[1] >= corners[3]:
        return None
    x0, y0, x1, y1 = corners
    if not cells or min(cells[2:]) <= 0:
        return Crop(x0, y0, x1, y1)
    return Placement(x0, y0, x1, y1, cells=Centres(*cells))


def on_grid(values: FloatMap, crop: Crop, box: Box | None = None, side: int = SIDE) -> Floats:
    """Return a map (h,w) on a grid (side,side) that divides a box into equal parts.

    The box is in original pixels, by default what the network saw. A cell of the grid is the mean
    of the map in it, interpolated linearly between the centres of the map's cells. An image of
    gradients (3,H,W) counts by the sum of its absolute values over the colours.
    """
    if values.ndim == 3:
        values = np.abs(values).sum(0)
    x0, y0, x1, y1 = box or crop.box
    centres = crop.centres(values.shape)
    place = centres.scaled(1 / (x1 - x0), 1 / (y1 - y0), -x0 / (x1 - x0), -y0 / (y1 - y0))
    rows = _weights(round(place.y, 6), round(place.dy, 6), values.shape[0], side)
    columns = _weights(round(place.x, 6), round(place.dx, 6), values.shape[1], side)
    return np.asarray(rows @ values.astype(np.float64) @ columns.T)


def heat_of(grid: Floats) -> Floats | None:
    """Return the positive part of a grid as shares of its sum, or None where there is none."""
    positive = grid.clip(min=0)
    total = positive.sum()
    return positive / total if np.isfinite(total) and total > 0 else None


def area_of(boxes: Sequence[Box], crop: Crop, side: int = SIDE) -> Floats:
    """Return the share (side,side) of each cell of the network's grid that lies in the boxes."""
    (x0, y0, _, _), (width, height), fine = crop.box, crop.size, side * _SAMPLES
    covered = np.zeros((fine, fine))
    along = (np.arange(fine) + 0.5) / fine
    for left, top, right, bottom in boxes:
        columns = (along * width + x0 >= left) & (along * width + x0 < right)
        rows = (along * height + y0 >= top) & (along * height + y0 < bottom)
        covered[np.ix_(rows, columns)] = 1
    return np.asarray(covered.reshape(side, _SAMPLES, side, _SAMPLES).mean((1, 3)))


@lru_cache(maxsize=256)
def _weights(start: float, step: float, count: int, side: int) -> Floats:
    """Return the weights (side,count) of a map's rows, the first one centred at `start`.

    Both numbers are shares of the grid's length.
    """
    places = (np.arange(side * _SAMPLES) + 0.5) / (side * _SAMPLES)
    cells = np.clip((places - start) / step, 0, count - 1)
    weights = (1 - np.abs(cells[:, None] - np.arange(count))).clip(min=0)
    return np.asarray(weights.reshape(side, _SAMPLES, count).mean(1))
