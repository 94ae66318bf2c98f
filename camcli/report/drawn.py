"""Saved maps drawn at the size of a thumbnail: over the photo, or alone where it was not found."""

from __future__ import annotations

import numpy as np

from camcli.errors import CamcliError
from camcli.images.geometry import MapArray, Pixels, Size
from camcli.render.draw import heatmap, overlay
from camcli.render.style import Style
from camcli.report.folder import SavedResult
from camcli.runs.maps import read_map


def map_of(result: SavedResult) -> MapArray:
    """Return the map of a result whose place is known. Raises CamcliError."""
    if "map" not in result.files or result.crop is None:
        raise CamcliError("the map or its place is missing")
    with np.errstate(over="ignore"):  # a float64 beyond float32 is infinite
        values = read_map(result.files["map"]).astype(np.float32)
    if not values.size:
        raise CamcliError("the map is empty")
    return np.nan_to_num(values, posinf=0, neginf=0)


def drawn_over(
    result: SavedResult, values: MapArray, photo: Pixels, size: Size, style: Style
) -> Pixels:
    """Draw a map over a thumbnail of the original, which has this size."""
    assert result.crop is not None  # as in map_of
    height, width = photo.shape[:2]
    small = result.crop.resized(width / size[0], height / size[1])
    if small.x1 > width or small.y1 > height:  # less than a pixel of the thumbnail
        return photo
    return overlay(photo, values, small, style, result.signed, result.top)


def drawn_alone(result: SavedResult, values: MapArray, side: int, style: Style) -> Pixels:
    """Draw what the network saw without the photo. `side` is its longer side in pixels."""
    assert result.crop is not None
    scale = side / max(result.crop.size)
    small = result.crop.resized(scale, scale)
    shape = small.y1, small.x1
    return heatmap(values, small, shape, style, result.signed, result.top)[small.slices]
