"""The styles of drawing: colour maps, opacities and blends."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camcli.errors import CamcliError, spelled, unknown
from camcli.images.geometry import MapArray
from camcli.images.opencv import cv2
from camcli.render.names import BLENDS, COLORMAPS

_DIVERGING = ((33, 102, 172), (146, 197, 222), (247, 247, 247), (244, 165, 130), (178, 24, 43))

_ALPHAS = {"heat": 0.75, "even": 0.5}

_BLUE, _RED = (50, 120, 230), (225, 45, 40)

_START = 0.5
"""Where inferno begins. Its lower part is darker than a grey photo, and would look like cold."""

_COLD = 0.04
"""The share of the largest value up to which the photo shows through, as above in `heat`."""


@dataclass(frozen=True)
class Style:
    """A drawing style: a name in COLORMAPS, the opacity of the heat from 0 to 1, a name in BLENDS.

    `heat` draws the map over the photo half desaturated: `alpha`, 0.75 by default, is the largest
    opacity, and low values are transparent. `even` draws it over the photo with the opacity `alpha`
    everywhere, 0.5 by default. The colormap `auto` is the upper part of inferno for unsigned maps
    (of `even` turbo), and blue and red around zero for signed ones.
    """

    colormap: str = "auto"
    alpha: float | None = None
    blend: str = "heat"

    def __post_init__(self) -> None:
        object.__setattr__(self, "colormap", spelled(self.colormap, COLORMAPS))
        if self.colormap not in COLORMAPS:
            raise CamcliError(unknown("colormap", self.colormap, COLORMAPS))
        if self.blend not in BLENDS:
            raise CamcliError(unknown("blend", self.blend, BLENDS))
        if not 0 <= self.opacity <= 1:
            raise CamcliError(f"alpha {self.alpha}: expected 0 (photo only) to 1 (heat only)")

    @property
    def opacity(self) -> float:
        """The opacity `alpha`, or the default of the blend."""
        return _ALPHAS[self.blend] if self.alpha is None else self.alpha

    def diverging(self, signed: bool) -> bool:
        """Return whether negative values are drawn in blue and positive values in red."""
        return self.colormap == "diverging" or (self.colormap == "auto" and signed)

    def table(self, signed: bool) -> NDArray[np.uint8]:
        """Return the 256 colours of a map alone, (256,3) RGB. The array must not be modified.

        In a blend by heat, colours fade to black as they fade to the photo in an overlay.
        """
        if self.diverging(signed):
            return _table("diverging")
        if self.blend == "even":
            return _table("turbo" if self.colormap == "auto" else self.colormap)
        return _faded(self.colormap)

    def layer(self, signed: bool) -> tuple[NDArray[np.uint8], MapArray]:
        """Return the 256 colours (256,3) over a photo, and their shares (256,) of `most`."""
        level, even = np.linspace(0, 1, 256, dtype=np.float32), self.blend == "even"
        if not self.diverging(signed):
            return (self.table(signed), level**0) if even else (_heat(self.colormap), _rise(level))
        size = np.abs(2 * level - 1)
        blue, red = _table("diverging")[[0, -1]] if even else (_BLUE, _RED)
        ends = np.where(level[:, None] < 0.5, blue, red).astype(np.uint8)
        return ends, size if even else ((size - _COLD) / (1 - _COLD)).clip(0, 1)

    def most(self, signed: bool) -> float:
        """Return the largest opacity, 0 to 1."""
        return min(1.0, self.strength(signed) * self.opacity)

    def strength(self, signed: bool) -> float:
        """Return the factor of the opacity: two colours are seen less well than many."""
        if not self.diverging(signed):
            return 1.0
        return 1.6 if self.blend == "even" else 1.2


def _rise(level: MapArray) -> MapArray:
    """Return the opacity of unsigned levels, as a share of the largest one."""
    return np.asarray(((level - _COLD) / 0.5).clip(0, 1), np.float32)


@functools.cache
def _heat(colormap: str) -> NDArray[np.uint8]:
    """Return the colours of a blend by heat: of inferno, those that are visible on black."""
    if colormap != "auto":
        return _table(colormap)
    steps = np.linspace(255 * _START, 255, 256)
    channels = [np.interp(steps, np.arange(256), c) for c in _table("inferno").T]
    return np.asarray(np.rint(np.stack(channels, axis=1)), np.uint8)


@functools.cache
def _faded(colormap: str) -> NDArray[np.uint8]:
    rise = _rise(np.linspace(0, 1, 256, dtype=np.float32))
    return np.asarray(np.rint(_heat(colormap) * rise[:, None]), np.uint8)


@functools.cache
def _table(colormap: str) -> NDArray[np.uint8]:
    if colormap == "diverging":
        steps, stops = np.linspace(0, 1, 256), np.linspace(0, 1, len(_DIVERGING))
        channels = [np.interp(steps, stops, c) for c in zip(*_DIVERGING, strict=True)]
        return np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    coloured = cv2.applyColorMap(ramp, getattr(cv2, f"COLORMAP_{colormap.upper()}"))
    return np.ascontiguousarray(coloured[:, 0, ::-1])
