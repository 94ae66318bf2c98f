"""Compose pictures side by side: panels, strips, labelled grids and comparisons of maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from camcli.images.geometry import Crop, MapArray, Pixels
from camcli.images.opencv import cv2
from camcli.render.draw import ceiling, flatten_colours, heatmap, overlay
from camcli.render.numbers import format_number
from camcli.render.style import Style


def panel(
    pixels: Pixels,
    values: MapArray,
    crop: Crop,
    style: Style,
    signed: bool,
    top: float | None = None,
) -> Pixels:
    """Return the original, the heatmap with its colour bar and the overlay side by side.

    All are H pixels high; the panel ends with the overlay. `top` is the value in full colour.
    """
    height, width = pixels.shape[:2]
    gap = np.full((height, max(2, width // 64), 3), 255, np.uint8)
    heat = heatmap(values, crop, (height, width), style, signed, top)
    own = ceiling(flatten_colours(values), signed=signed)
    bar = _colour_bar(height, top or own, style.table(signed), signed)
    overlaid = overlay(pixels, values, crop, style, signed, top)
    return np.hstack([pixels, gap, heat, gap, bar, gap, overlaid])


def strip(pictures: Sequence[Pixels], height: int = 288) -> Pixels:
    """Return pictures side by side, reduced to one height of at most `height` pixels."""
    height = min(height, max(len(picture) for picture in pictures))
    sizes = [(max(1, round(p.shape[1] * height / len(p))), height) for p in pictures]
    parts = [
        cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        for picture, size in zip(pictures, sizes, strict=True)
    ]
    gap = np.full((height, 6, 3), 255, np.uint8)
    row = [part for picture in parts for part in (gap, picture)]
    return np.asarray(np.hstack(row[1:]), np.uint8)


_LABELLED_SIDE = 256
"""The longer side of a labelled picture in pixels, at most."""


def labelled_grid(pictures: Sequence[tuple[str, Pixels]]) -> Pixels:
    """Return pictures of one size in rows of up to five, each below its title."""
    cells = [_labelled(title, picture) for title, picture in pictures]
    columns = min(5, len(cells))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    rows = [np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)]
    return np.vstack(rows)


def _labelled(title: str, picture: Pixels) -> Pixels:
    height, width = picture.shape[:2]
    scale = min(1.0, _LABELLED_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    reduced = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    cell = np.full((size[1] + 32, max(size[0] + 8, 120), 3), 255, np.uint8)
    cell[28 : 28 + size[1], 4 : 4 + size[0]] = reduced
    _write_line(cell, title, 18)
    return cell


def _colour_bar(height: int, top: float, table: NDArray[np.uint8], signed: bool) -> Pixels:
    """Return the colours of a map from `top` down, beside the values at the ends and at zero."""
    steps = np.rint(np.linspace(255, 0, height)).astype(int)
    ramp = np.repeat(table[steps][:, None], max(6, height // 24), axis=1)
    scale, font = min(2.0, max(0.35, height / 800)), cv2.FONT_HERSHEY_SIMPLEX
    thickness = max(1, round(scale))
    ends = (
        [(format_number(top, 3), 0.0), ("0", 0.5), (format_number(-top, 3), 1.0)]
        if signed
        else [*([(format_number(top, 3), 0.0)] if top else []), ("0", 1.0)]
    )
    sizes = [cv2.getTextSize(text, font, scale, thickness)[0] for text, _ in ends]
    numbers = np.full((height, max(width for width, _ in sizes) + 8, 3), 255, np.uint8)
    for (text, depth), (_, tall) in zip(ends, sizes, strict=True):
        at = (4, tall + 1 + round(depth * max(0.0, height - 1.3 * tall - 3)))
        cv2.putText(numbers, text, at, font, scale, (0, 0, 0), thickness, cv2.LINE_AA)
    return np.hstack([ramp, numbers])


def comparison(baseline: MapArray, new: MapArray) -> Pixels:
    """Return a baseline map, the new map and their difference side by side, with their ranges.

    The two maps share one scale. The difference has its own scale; it is blue where the new map is
    lower and red where it is higher. Map cells are drawn as squares. Maps of different shapes have
    no difference.
    """
    comparable = baseline.shape == new.shape
    top = max(ceiling(m, signed=True) for m in (baseline, new)) or 1.0
    signed = min(float(m.min(initial=0)) for m in (baseline, new)) < 0
    change = new - baseline if comparable else np.zeros_like(baseline)
    title = "new - baseline" if comparable else "shapes differ"
    caption = f"up to {format_number(np.abs(change).max(initial=0), 3)}" if comparable else ""
    tiles = [
        _tile(baseline, top, signed, "baseline", _range_and_shape(baseline)),
        _tile(new, top, signed, "new", _range_and_shape(new)),
        _tile(change, ceiling(change, signed=True) or 1.0, True, title, caption),
    ]
    height = max(len(tile) for tile in tiles)
    padded = [
        np.pad(tile, ((0, height - len(tile)), (0, 8), (0, 0)), constant_values=255)
        for tile in tiles
    ]
    return np.hstack(padded)


_TILE = 288
"""The longer side of a map in a comparison in pixels."""


def _tile(values: MapArray, top: float, signed: bool, title: str, caption: str) -> Pixels:
    """Return a map with squares for cells, below its title and its caption."""
    level = np.nan_to_num(values / (2 * top) + 0.5 if signed else values.clip(min=0) / top)
    steps = np.rint(level.clip(0, 1) * 255).astype(np.uint8)
    image = values.ndim == 3
    drawn = steps.transpose(1, 2, 0) if image else Style().table(signed)[steps]
    height, width = drawn.shape[:2]
    scale = _TILE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    body = cv2.resize(np.ascontiguousarray(drawn), size, interpolation=cv2.INTER_NEAREST)
    canvas = np.full((size[1] + 44, _TILE, 3), 255, np.uint8)
    canvas[44:, : size[0]] = body
    for line, at in ((title, 17), (caption, 36)):
        _write_line(canvas, line, at)
    return canvas


def _write_line(canvas: Pixels, line: str, at: int) -> None:
    """Write a line of text into a picture in place; `at` is the y coordinate of the baseline."""
    black, font = (0, 0, 0), cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(canvas, line, (4, at), font, 0.48, black, 1, cv2.LINE_AA)


def _range_and_shape(values: MapArray) -> str:
    height, width = values.shape[-2:]
    low, high = (format_number(float(end), 3) for end in (values.min(), values.max()))
    return f"{low} to {high}, {height} x {width}"
