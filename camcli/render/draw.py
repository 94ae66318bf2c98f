"""From raw maps to pictures: the only place where a map is scaled. RGB end to end."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camcli.errors import CamcliError, one_line, unknown
from camcli.images.geometry import Crop, Pixels

try:
    import cv2
except ImportError as error:  # a missing system library, not a missing package
    raise CamcliError(
        f"OpenCV cannot be loaded ({one_line(error)}): install the system library "
        "(Debian, Ubuntu: apt-get install libgl1 libglib2.0-0), or pip install "
        "opencv-python-headless in place of opencv-python"
    ) from None


Values = NDArray[np.float32]
"""A raw map (h,w), or an image of signed gradients (3,H,W)."""


COLORMAPS = ("auto", "diverging", *sorted(
    name.removeprefix("COLORMAP_").lower() for name in dir(cv2) if name.startswith("COLORMAP_")
))  # fmt: skip


DIM = 0.35
"""What is left of the brightness where the network did not look."""


_DIMMED = (np.arange(256) * np.float32(DIM)).astype(np.uint8)


_DIVERGING = ((33, 102, 172), (146, 197, 222), (247, 247, 247), (244, 165, 130), (178, 24, 43))


@dataclass(frozen=True)
class Style:
    """How maps are drawn: a name in COLORMAPS, and the heat's opacity from 0 to 1.

    `auto` is turbo for maps from zero up, and blue-white-red around zero for signed ones.
    """

    colormap: str = "auto"
    alpha: float = 0.5

    def __post_init__(self) -> None:
        if self.colormap not in COLORMAPS:
            raise CamcliError(unknown("colormap", self.colormap, COLORMAPS))
        if not 0 <= self.alpha <= 1:
            raise CamcliError(f"alpha {self.alpha}: expected 0 (photo only) to 1 (heat only)")

    def diverging(self, signed: bool) -> bool:
        """Whether such a map is drawn blue for negative and red for positive values."""
        return self.colormap == "diverging" or (self.colormap == "auto" and signed)

    def table(self, signed: bool) -> NDArray[np.uint8]:
        """The 256 colours for such a map, (256,3) RGB, not to be written to."""
        if self.diverging(signed):
            return _table("diverging")
        return _table("turbo" if self.colormap == "auto" else self.colormap)


@functools.cache
def _table(colormap: str) -> NDArray[np.uint8]:
    if colormap == "diverging":
        steps, stops = np.linspace(0, 1, 256), np.linspace(0, 1, len(_DIVERGING))
        channels = [np.interp(steps, stops, c) for c in zip(*_DIVERGING, strict=True)]
        return np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    coloured = cv2.applyColorMap(ramp, getattr(cv2, f"COLORMAP_{colormap.upper()}"))
    return np.ascontiguousarray(coloured[:, 0, ::-1])


def ceiling(values: Values, *, signed: bool) -> float:
    """The value drawn in full colour: the largest, and if signed, in absolute value.

    Of gradients (3,H,W), all but the few largest, which would leave all others grey. Zero for a map
    without any such value.
    """
    size = np.abs(values) if signed else values
    if values.ndim == 3 and (limit := float(np.quantile(size, 0.999))):
        return limit
    return max(0.0, float(size.max(initial=0)))


def scaled(values: Values, *, signed: bool, top: float | None = None) -> Values:
    """The map in [0, 1]: 0 to its maximum, or if signed, symmetric with zero at one half.

    A map without any value but zero stays at its zero. `top` is the value in full colour, its own
    largest unless given; what lies beyond it is cut.
    """
    highest = top or float((np.abs(values) if signed else values).max(initial=0))
    if highest <= 0:
        highest = 1.0
    share = values / (2 * highest) + 0.5 if signed else values.clip(min=0) / highest
    return np.asarray(share.clip(0, 1) if top else share, np.float32)


def flat(values: Values) -> Values:
    """A map as it is, and an image of gradients (3,H,W) as one: summed over its colours (H,W),
    without the peaks of the few largest."""
    if values.ndim == 2:
        return values
    limit = ceiling(values.sum(0, keepdims=True), signed=True)
    return np.asarray(values.sum(0).clip(-limit, limit), np.float32)


def heatmap(
    values: Values, crop: Crop, size: tuple[int, int], style: Style, signed: bool
) -> Pixels:
    """The coloured map where the network saw it, on black, (H,W,3) for an original of size (H,W).

    An image of gradients (3,H,W) is summed over its colours.
    """
    canvas = np.zeros((*size, 3), np.uint8)
    canvas[crop.slices] = _coloured(flat(values), crop, style, signed)
    return canvas


def overlay(
    pixels: Pixels,
    values: Values,
    crop: Crop,
    style: Style,
    signed: bool,
    top: float | None = None,
) -> Pixels:
    """The map over its part of the original (H,W,3); what the network did not see is dimmed.

    The heat covers evenly with the style's opacity; in diverging colours it covers the more, the
    further the map is from zero, so that the photo shows where nothing speaks for or against. An
    image of gradients replaces its part, grey at zero. A map that is zero everywhere leaves the
    photo as it is. `top` is the value in full colour, unless given the map's own `ceiling`.
    """
    drawn = np.asarray(cv2.LUT(pixels, _DIMMED), np.uint8)
    photo = pixels[crop.slices]
    if not values.any():
        drawn[crop.slices] = photo
    elif values.ndim == 3:
        drawn[crop.slices] = _gradients(values, crop, top)
    elif style.diverging(signed):
        level = 2 * _level(values, crop, signed, top) - 1
        table = style.table(signed)
        ends = np.where(level[..., None] < 0, table[0], table[-1]).astype(np.float32)
        opacity = np.abs(level)[..., None] * np.float32(min(1, 1.6 * style.alpha))
        drawn[crop.slices] = np.rint(photo + (ends - photo) * opacity).astype(np.uint8)
    else:
        colour = _coloured(values, crop, style, signed, top)
        drawn[crop.slices] = cv2.addWeighted(photo, 1 - style.alpha, colour, style.alpha, 0)
    return drawn


def frame(pixels: Pixels, box: Sequence[int]) -> None:
    """Draw a box (x0, y0, x1, y1) into an image, white with a dark edge, in place."""
    x0, y0, x1, y1 = box
    width = max(1, round(min(pixels.shape[:2]) / 200))
    drawn = np.ascontiguousarray(pixels)
    for colour, thickness in (((0, 0, 0), 3 * width), ((255, 255, 255), width)):
        cv2.rectangle(drawn, (x0, y0), (x1 - 1, y1 - 1), colour, thickness)
    pixels[...] = drawn


def placed(values: Values, crop: Crop, size: tuple[int, int]) -> Values:
    """The map's positive part in [0, 1] where the network saw it, zero elsewhere, (H,W) for an
    original of size (H,W)."""
    canvas = np.zeros(size, np.float32)
    canvas[crop.slices] = _level(values, crop, signed=False)
    return canvas


# Photographs hardly repeat themselves: to look for what does makes them a tenth smaller, and takes
# two and a half times as long. Only runs of one value are found, as there are in plots.
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]


if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # since OpenCV 4.12
    _PNG += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB]


def png(pixels: Pixels) -> bytes:
    """The image as a PNG file."""
    done, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), _PNG)
    if not done:
        raise CamcliError(f"OpenCV cannot encode a PNG of shape {pixels.shape}")
    return data.tobytes()


def _level(values: Values, crop: Crop, signed: bool, top: float | None = None) -> Values:
    size = (crop.x1 - crop.x0, crop.y1 - crop.y0)
    return np.asarray(cv2.resize(scaled(values, signed=signed, top=top), size), np.float32)


def _coloured(
    values: Values, crop: Crop, style: Style, signed: bool, top: float | None = None
) -> Pixels:
    level = cv2.convertScaleAbs(_level(values, crop, signed, top), alpha=255)
    return np.asarray(cv2.LUT(cv2.merge([level] * 3), style.table(signed)[None]), np.uint8)


def _gradients(values: Values, crop: Crop, top: float | None = None) -> Pixels:
    limit = top or ceiling(values, signed=True)
    shown = scaled(values.clip(-limit, limit).transpose(1, 2, 0), signed=True, top=top)
    size = (crop.x1 - crop.x0, crop.y1 - crop.y0)
    return np.asarray(cv2.resize(np.rint(shown * 255).astype(np.uint8), size), np.uint8)
