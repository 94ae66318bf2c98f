"""Enlarge maps for the eye: smooth between the centres of cells, without overshoot."""

from __future__ import annotations

import numpy as np

from camcli.images.geometry import Crop, Floats, MapArray, Pixels
from camcli.images.opencv import cv2

SIDE = 512
"""The longest side of a smooth picture in pixels. The rest of the way is linear."""


def smooth_levels(levels: MapArray, crop: Crop) -> Pixels:
    """Return levels (h,w) from 0 to 1 as a smooth picture of their crop, from 0 to 255.

    Its sides are those of the crop, up to SIDE. Each cell has its value at its centre. Between
    centres a monotone cubic runs down and then across (Fritsch & Butland 1984,
    doi:10.1137/0905021). No value lies outside those of the cells around it, and a hot cell is
    round, where bilinear interpolation draws a star.
    """
    width, height = min(crop.size[0], SIDE), min(crop.size[1], SIDE)
    x, y = width / crop.size[0], height / crop.size[1]
    centres = crop.centres(levels.shape).scaled(x, y, -crop.x0 * x, -crop.y0 * y)
    rows, columns = centres.cells(levels.shape, (0, 0, width, height))
    smooth = _monotone(_monotone(levels, rows).T, columns).T
    return np.asarray(cv2.convertScaleAbs(np.ascontiguousarray(smooth), alpha=255), np.uint8)


def _monotone(values: MapArray, places: Floats) -> MapArray:
    """Interpolate rows (h,w) at n places in rows, (n,w), with a slope of zero at extremes."""
    steps = np.diff(values, axis=0)
    slopes = np.zeros_like(values)
    product, total = steps[:-1] * steps[1:], steps[:-1] + steps[1:]
    np.divide(2 * product, total, out=slopes[1:-1], where=product > 0)
    first = places.astype(int)
    second = np.minimum(first + 1, len(values) - 1)
    t = (places - first).astype(np.float32)[:, None]
    found: MapArray = np.append(steps, np.zeros_like(values[:1]), axis=0)[first]
    found *= t * t * (3 - 2 * t)
    found += values[first]
    bend = slopes[first]
    bend *= t * (1 - t) ** 2
    back = slopes[second]
    back *= t * t * (1 - t)
    bend -= back
    found += bend
    return found
