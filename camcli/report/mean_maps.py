"""Mean heat as small pictures, all in one scale: the heat of a cell over that of an even spread.

The scale is fixed, so that maps of several classes, groups and pages can be compared. A heat of
`MOST` times the even spread or more has the last colour. The colour follows the square root, in
which ordinary heat and a bright spot are both visible.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TypeAlias
from xml.etree.ElementTree import Element

import numpy as np

from camcli.images.geometry import Box, Floats, Pixels
from camcli.render.style import Style
from camcli.report.markup import element, picture_url
from camcli.report.originals import webp

Grid: TypeAlias = Sequence[Sequence[float]]
"""A square of numbers, row by row."""
MOST = 9
"""The heat that has the last colour, over that of an even spread."""
_TICKS = (0, 1, 4, MOST)
_LEVELS = 64
"""The colours in use. Few colours make small files."""
_ROWS, _COLUMNS = ("top", "", "bottom"), ("left", "", "right")
_EVEN = 1.25
"""The heat of a part, over that of an even spread, up to which no part is named."""


def mean_map(grid: Grid, images: int) -> Element:
    """Return the picture of a mean heat. `images` is the number of images that it is the mean of.

    The grid sums to 1.
    """
    values = np.asarray(grid, float)
    return element(
        "img",
        class_="mean-map",
        src=picture_url(webp(_coloured(values), lossless=True), "webp"),
        alt=f"mean heat of {images:,} {'image' if images == 1 else 'images'}: {in_words(values)}",
        width=str(values.shape[1]),
        height=str(values.shape[0]),
        loading="lazy",
    )


def outlined_map(grid: Grid, images: int, region: Grid | None) -> Element:
    """Return the picture of a mean heat, with the outline of a region of ones."""
    picture, side = mean_map(grid, images), len(grid)
    shown = outline(region, (0, 0, side, side), (0, 0, side, side)) if region else None
    return element("div", picture, shown, class_="outlined")


def outline(region: Grid, place: Box, view: Box) -> Element:
    """Return the outline of a region of ones, to lie over a picture.

    `place` (x0,y0,x1,y1) is that of the region's grid and `view` that of the picture, in the same
    units.
    """
    path, side = " ".join(_edges(region)), len(region)
    x, y = (place[2] - place[0]) / side, (place[3] - place[1]) / side
    moved = f"translate({place[0]:g} {place[1]:g}) scale({x:.6g} {y:.6g})"
    lines = (element("path", d=path, transform=moved, class_=name) for name in ("casing", "line"))
    box = (*view[:2], view[2] - view[0], view[3] - view[1])
    return element("svg", *lines, viewBox=" ".join(f"{one:g}" for one in box), aria_hidden="true")


def in_words(values: Floats) -> str:
    """Return the part of a square with the densest heat: a corner, an edge or the centre."""
    side = len(values)
    ends = [0, side // 4, side - side // 4, side]
    if side < 4 or not values.any():
        return "spread over the picture" if values.any() else "none"
    parts = {
        (row, column): values[ends[row] : ends[row + 1], ends[column] : ends[column + 1]].mean()
        for row in range(3)
        for column in range(3)
    }
    row, column = max(parts, key=lambda part: parts[part])
    if parts[row, column] < _EVEN * values.mean():
        return "spread over the picture"
    return f"most {_place(_ROWS[row], _COLUMNS[column])}"


def legend() -> Element:
    """Return the scale of the colours, in words as well."""
    ramp = _table()[None].repeat(4, axis=0)
    marks = [element("span", f"{tick}×") for tick in _TICKS]  # noqa: RUF001
    return element(
        "figure",
        element(
            "img",
            src=picture_url(webp(ramp, lossless=True), "webp"),
            alt=f"a scale from black over purple and orange to yellow, for 0 to {MOST} times",
        ),
        element("div", *marks, class_="ticks", aria_hidden="true"),
        element("figcaption", "Mean heat, in multiples of evenly spread heat"),
        class_="legend",
    )


def _place(row: str, column: str) -> str:
    if row and column:
        return f"in the {row} {column} corner"
    return f"at the {row or column} edge" if row or column else "in the centre"


def _coloured(values: Floats) -> Pixels:
    even = 1 / values.size
    level = np.sqrt((values / (MOST * even)).clip(0, 1))
    return np.asarray(_table()[np.rint(level * (_LEVELS - 1)).astype(int)])


@cache
def _table() -> Pixels:
    """Return the colours, (64,3) RGB: inferno, whose lightness grows evenly."""
    whole = Style("inferno", blend="even").table(signed=False)
    return np.asarray(whole[np.linspace(0, len(whole) - 1, _LEVELS).round().astype(int)])


def _edges(region: Grid) -> Iterator[str]:
    """Yield the edges of cells between inside and outside, as parts of an SVG path."""
    padded = np.pad(np.asarray(region, float) > 0, 1)
    across = padded[1:, 1:-1] != padded[:-1, 1:-1]
    down = padded[1:-1, 1:] != padded[1:-1, :-1]
    yield from (f"M{x} {y}h1" for y, x in np.argwhere(across))
    yield from (f"M{x} {y}v1" for y, x in np.argwhere(down))
