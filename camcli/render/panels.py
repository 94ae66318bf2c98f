"""Compose pictures: panels, strips, labelled grids and comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from camcli.errors import CamcliError, one_line
from camcli.images.geometry import Crop, Pixels

try:
    import cv2
except ImportError as error:  # a missing system library, not a missing package
    raise CamcliError(
        f"OpenCV cannot be loaded ({one_line(error)}): install the system library "
        "(Debian, Ubuntu: apt-get install libgl1 libglib2.0-0), or pip install "
        "opencv-python-headless in place of opencv-python"
    ) from None
from camcli.render.draw import Style, Values, ceiling, flat, heatmap, overlay


def panel(pixels: Pixels, values: Values, crop: Crop, style: Style, signed: bool) -> Pixels:
    """Original, heatmap with its scale, and overlay side by side, (H, 3 W + scale and gaps, 3)."""
    height, width = pixels.shape[:2]
    gap = np.full((height, max(2, width // 64), 3), 255, np.uint8)
    hot = heatmap(values, crop, (height, width), style, signed)
    bar = _bar(height, ceiling(flat(values), signed=signed), style.table(signed), signed)
    covered = overlay(pixels, values, crop, style, signed)
    return np.hstack([pixels, gap, hot, gap, bar, gap, covered])


def strip(pictures: Sequence[Pixels], height: int = 288) -> Pixels:
    """Pictures side by side, none higher than this and all equally high, (H,W,3)."""
    high = min(height, max(len(picture) for picture in pictures))
    sizes = [(max(1, round(p.shape[1] * high / len(p))), high) for p in pictures]
    parts = [
        cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        for picture, size in zip(pictures, sizes, strict=True)
    ]
    gap = np.full((high, 6, 3), 255, np.uint8)
    row = [part for picture in parts for part in (gap, picture)]
    return np.asarray(np.hstack(row[1:]), np.uint8)


_CELL = 256
"""The longer side of a labelled picture, in pixels, at most."""


def labelled(pictures: Sequence[tuple[str, Pixels]]) -> Pixels:
    """Pictures of one size in reading order, five in a row, each under its line of text."""
    cells = [_titled(title, picture) for title, picture in pictures]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % min(5, len(cells)))
    across = min(5, len(cells))
    rows = [np.hstack(cells[start : start + across]) for start in range(0, len(cells), across)]
    return np.vstack(rows)


def _titled(title: str, picture: Pixels) -> Pixels:
    height, width = picture.shape[:2]
    scale = min(1.0, _CELL / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    cell = np.full((size[1] + 32, max(size[0] + 8, 120), 3), 255, np.uint8)
    cell[28 : 28 + size[1], 4 : 4 + size[0]] = cv2.resize(
        picture, size, interpolation=cv2.INTER_AREA
    )
    _write(cell, title, 18)
    return cell


def _bar(height: int, top: float, table: NDArray[np.uint8], signed: bool) -> Pixels:
    """The colours of a map from its highest value down, beside their numbers."""
    steps = np.rint(np.linspace(255, 0, height)).astype(int)
    ramp = np.repeat(table[steps][:, None], max(6, height // 24), axis=1)
    size, font = min(2.0, max(0.35, height / 800)), cv2.FONT_HERSHEY_SIMPLEX
    thick = max(1, round(size))
    ends = (
        [(f"{top:.3g}", 0.0), ("0", 0.5), (f"{-top:.3g}", 1.0)]
        if signed
        else [*([(f"{top:.3g}", 0.0)] if top else []), ("0", 1.0)]
    )
    sizes = [cv2.getTextSize(text, font, size, thick)[0] for text, _ in ends]
    numbers = np.full((height, max(width for width, _ in sizes) + 8, 3), 255, np.uint8)
    for (text, share), (_, tall) in zip(ends, sizes, strict=True):
        at = (4, tall + 1 + round(share * max(0.0, height - 1.3 * tall - 3)))
        cv2.putText(numbers, text, at, font, size, (0, 0, 0), thick, cv2.LINE_AA)
    return np.hstack([ramp, numbers])


def comparison(baseline: Values, new: Values) -> Pixels:
    """A map as it was, as it is, and the signed difference, side by side with their ranges.

    The first two share one scale; the difference has its own, blue where the new map is lower and
    red where it is higher. Cells are drawn as squares. Maps of two shapes have no difference.
    """
    shapes = baseline.shape == new.shape
    top = max(ceiling(m, signed=True) for m in (baseline, new)) or 1.0
    signed = min(float(m.min(initial=0)) for m in (baseline, new)) < 0
    change = new - baseline if shapes else np.zeros_like(baseline)
    title = "new - baseline" if shapes else "shapes differ"
    caption = f"up to {np.abs(change).max(initial=0):.3g}" if shapes else ""
    tiles = [
        _tile(baseline, top, signed, "baseline", _range(baseline)),
        _tile(new, top, signed, "new", _range(new)),
        _tile(change, ceiling(change, signed=True) or 1.0, True, title, caption),
    ]
    height = max(len(tile) for tile in tiles)
    padded = [
        np.pad(tile, ((0, height - len(tile)), (0, 8), (0, 0)), constant_values=255)
        for tile in tiles
    ]
    return np.hstack(padded)


_TILE = 288
"""The longer side of a map in a comparison, in pixels."""


def _tile(values: Values, top: float, signed: bool, title: str, caption: str) -> Pixels:
    """A map on a given scale, cell by cell, under two lines of text."""
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
        _write(canvas, line, at)
    return canvas


def _write(canvas: Pixels, line: str, at: int) -> None:
    """A line of text into a picture, in place, on the base line `at`."""
    black, font = (0, 0, 0), cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(canvas, line, (4, at), font, 0.48, black, 1, cv2.LINE_AA)


def _range(values: Values) -> str:
    height, width = values.shape[-2:]
    return f"{values.min():.3g} to {values.max():.3g}, {height} x {width}"
