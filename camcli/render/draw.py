"""Draw raw maps as RGB pictures: heatmaps, overlays and boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from camcli.images.geometry import Centres, Crop, MapArray, Pixels
from camcli.images.opencv import cv2
from camcli.render.blend import coloured, ground, tint, unseen
from camcli.render.smooth import smooth_levels
from camcli.render.style import Style

DIM = 0.35
"""The brightness outside the crop of an even blend, as a fraction of the original's."""

_DIMMED = (np.arange(256) * np.float32(DIM)).astype(np.uint8)


def ceiling(values: MapArray, *, signed: bool) -> float:
    """Return the value drawn in full colour: the maximum, of a signed map the absolute maximum.

    For gradients (3,H,W) it is the 0.999 quantile, because their few peaks would leave all other
    values grey. It is 0 if no value is positive or, if signed, not zero.
    """
    magnitudes = np.abs(values) if signed else values
    if values.ndim == 3 and (limit := float(np.quantile(magnitudes, 0.999))):
        return limit
    return max(0.0, float(magnitudes.max(initial=0)))


def normalise(values: MapArray, *, signed: bool, top: float | None = None) -> MapArray:
    """Scale a map to [0, 1]: from 0 to `top` or, if signed, from `-top` to `top` with 0 at 0.5.

    `top` defaults to the map's own maximum; values beyond it are clipped. A map of zeros keeps the
    value of zero.
    """
    highest = top or float((np.abs(values) if signed else values).max(initial=0))
    if highest <= 0:
        highest = 1.0
    level = values / (2 * highest) + 0.5 if signed else values.clip(min=0) / highest
    return np.asarray(level.clip(0, 1) if top else level, np.float32)


def flatten_colours(values: MapArray) -> MapArray:
    """Return a map (h,w) unchanged, and gradients (3,H,W) summed over colours (H,W).

    The sums are clipped to their `ceiling`.
    """
    if values.ndim == 2:
        return values
    limit = ceiling(values.sum(0, keepdims=True), signed=True)
    return np.asarray(values.sum(0).clip(-limit, limit), np.float32)


def heatmap(
    values: MapArray,
    crop: Crop,
    shape: tuple[int, int],
    style: Style,
    signed: bool,
    top: float | None = None,
) -> Pixels:
    """Draw a map into its crop of a black picture (H,W,3); `shape` is the original's (H,W).

    Gradients (3,H,W) are summed over colours. `top` is the value in full colour.
    """
    canvas = np.zeros((*shape, 3), np.uint8)
    canvas[crop.slices] = _coloured(flatten_colours(values), crop, style, signed, top)
    return canvas


def overlay(
    pixels: Pixels,
    values: MapArray,
    crop: Crop,
    style: Style,
    signed: bool,
    top: float | None = None,
) -> Pixels:
    """Draw a map over its crop of the original (H,W,3). `top` is the value in full colour.

    By heat, a map lies over the photo half desaturated, and is the more opaque the hotter it is.
    What the network did not see is dark grey behind a frame. Evenly, the heat has one opacity, and
    the rest of the original is dimmed. In diverging colours the opacity grows with the absolute
    value. Gradients (C,H,W) replace the crop and are grey at zero. Unless C is 3, they are summed
    over channels. A map of zeros leaves the photo without heat. `top` defaults to the map's own
    `ceiling`.
    """
    even = style.blend == "even"
    drawn = np.asarray(cv2.LUT(pixels, _DIMMED), np.uint8) if even else unseen(pixels, crop)
    photo = pixels[crop.slices]
    if values.ndim == 3 and values.any():
        drawn[crop.slices] = _gradients(values, crop, top)
    elif even:
        drawn[crop.slices] = _even(photo, values, crop, style, signed, top)
    else:
        drawn[crop.slices] = _by_heat(photo, values, crop, style, signed, top)
    return drawn


def _by_heat(
    photo: Pixels, values: MapArray, crop: Crop, style: Style, signed: bool, top: float | None
) -> Pixels:
    if not values.any():
        return ground(photo)
    levels = smooth_levels(normalise(values, signed=signed, top=top), crop)
    colours, shares = style.layer(signed)
    return tint(ground(photo), levels, colours, style.most(signed) * shares)


def _even(
    photo: Pixels, values: MapArray, crop: Crop, style: Style, signed: bool, top: float | None
) -> Pixels:
    if not values.any():
        return photo
    if not style.diverging(signed):
        colour = _coloured(values, crop, style, signed, top)
        opacity = style.opacity
        return np.asarray(cv2.addWeighted(photo, 1 - opacity, colour, opacity, 0), np.uint8)
    level = 2 * _level(values, crop, signed, top) - 1
    (blue, *_, red), _ = style.layer(signed)
    ends = np.where(level[..., None] < 0, blue, red).astype(np.float32)
    share = np.abs(level)[..., None] * np.float32(style.most(signed))
    return np.asarray(np.rint(photo + (ends - photo) * share).astype(np.uint8))


def draw_box(pixels: Pixels, box: Sequence[int]) -> None:
    """Draw a box (x0, y0, x1, y1) into a picture in place, white with a black edge."""
    x0, y0, x1, y1 = box
    width = max(1, round(min(pixels.shape[:2]) / 200))
    drawn = np.ascontiguousarray(pixels)
    for colour, thickness in (((0, 0, 0), 3 * width), ((255, 255, 255), width)):
        cv2.rectangle(drawn, (x0, y0), (x1 - 1, y1 - 1), colour, thickness)
    pixels[...] = drawn


def place_map(values: MapArray, crop: Crop, shape: tuple[int, int]) -> MapArray:
    """Return the positive part of a map, scaled to [0, 1], in its crop of the original (H,W).

    The map is resized first, as in CAM (Zhou et al. 2016, arXiv:1512.04150). `shape` is the
    original's (H,W). The rest of the array is zero.
    """
    canvas = np.zeros(shape, np.float32)
    canvas[crop.slices] = normalise(resized(values, crop), signed=False)
    return canvas


def _level(values: MapArray, crop: Crop, signed: bool, top: float | None = None) -> MapArray:
    """Return the map scaled to [0, 1] and resized to its crop."""
    return resized(normalise(values, signed=signed, top=top), crop)


def resized(values: MapArray, crop: Crop) -> MapArray:
    """Resize a map (h,w) to its crop (H,W), with each cell's value at the cell's centre.

    Between the centres it is interpolated linearly.
    """
    centres = crop.centres(values.shape)
    if centres.is_near(Centres.of_parts(values.shape, crop.box), values.shape):
        return np.asarray(cv2.resize(values, crop.size), np.float32)
    rows, columns = (w.astype(np.float32) for w in centres.weights(values.shape, crop.box))
    return np.asarray(rows @ values @ columns.T, np.float32)


def _coloured(
    values: MapArray, crop: Crop, style: Style, signed: bool, top: float | None = None
) -> Pixels:
    """Return a map's colours in its crop, (H,W,3)."""
    if style.blend == "even":
        levels = cv2.convertScaleAbs(_level(values, crop, signed, top), alpha=255)
        return coloured(np.asarray(levels, np.uint8), style.table(signed))
    levels = smooth_levels(normalise(values, signed=signed, top=top), crop)
    return np.asarray(cv2.resize(coloured(levels, style.table(signed)), crop.size), np.uint8)


def _gradients(values: MapArray, crop: Crop, top: float | None = None) -> Pixels:
    if len(values) != 3:  # the network takes no colours
        values = np.repeat(values.sum(0, keepdims=True), 3, axis=0)
    limit = top or ceiling(values, signed=True)
    level = normalise(values.clip(-limit, limit).transpose(1, 2, 0), signed=True, top=top)
    return np.asarray(cv2.resize(np.rint(level * 255).astype(np.uint8), crop.size), np.uint8)
