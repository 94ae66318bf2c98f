"""Drawings of lines, dots and text, as pixels by OpenCV, and as SVG and PDF by matplotlib.

Places and lengths are in pixels of the layout, from the upper left corner.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from camcli.evaluation.scores import Floats
from camcli.images.geometry import Pixels
from camcli.render.encode import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

Colour: TypeAlias = tuple[int, int, int]

INK: Colour = (40, 40, 40)
ENDINGS = (".png", ".svg", ".pdf")
"""The files of a drawing."""
_SCALE = 2
"""Pixels of a PNG file for a pixel of the layout."""
_PER_INCH = 96
"""Pixels of the layout in an inch of a vector file."""
_POINT = 72 / _PER_INCH
"""Points in a pixel of the layout."""
_DASH = 6
"""The length of a dash. A gap is half as long."""


@dataclass(frozen=True)
class Line:
    """A line through points (P,2)."""

    points: Floats
    colour: Colour = INK
    thickness: float = 1
    dashed: bool = False

    def paint(self, canvas: Pixels) -> None:
        """Draw the line into an image."""
        strokes = _dashes(self.points) if self.dashed else [self.points]
        parts = [_rounded(stroke).reshape(-1, 1, 2) for stroke in strokes]
        thickness = max(1, round(self.thickness * _SCALE))
        cv2.polylines(canvas, parts, False, self.colour, thickness, cv2.LINE_AA)

    def add_to(self, figure: Figure, layout: Transform) -> None:
        """Add the line to a figure of matplotlib."""
        dash = _DASH / self.thickness
        style: Any = (0, (dash, dash / 2)) if self.dashed else "-"
        width = self.thickness * _POINT
        _add_line(figure, layout, self.points, self.colour, linestyle=style, linewidth=width)


@dataclass(frozen=True)
class Dots:
    """Dots at centres (P,2)."""

    centres: Floats
    colour: Colour
    radius: float

    def paint(self, canvas: Pixels) -> None:
        """Draw the dots into an image."""
        for centre in _rounded(self.centres).tolist():
            cv2.circle(canvas, centre, round(self.radius * _SCALE), self.colour, -1, cv2.LINE_AA)

    def add_to(self, figure: Figure, layout: Transform) -> None:
        """Add the dots to a figure of matplotlib."""
        size = 2 * self.radius * _POINT
        look: dict[str, Any] = {"marker": "o", "markersize": size, "markeredgewidth": 0}
        _add_line(figure, layout, self.centres, self.colour, linestyle="", **look)


@dataclass(frozen=True)
class Text:
    """Text that starts at a point (align 0), is centred on it (0.5) or ends at it (1).

    The point is on the baseline. `height` is that of capital letters.
    """

    text: str
    at: tuple[float, float]
    height: float = 8.4
    align: float = 0

    def paint(self, canvas: Pixels) -> None:
        """Draw the text into an image."""
        font, scale = cv2.FONT_HERSHEY_SIMPLEX, self.height / 21 * _SCALE  # capitals of 21 pixels
        (width, _), _ = cv2.getTextSize(self.text, font, scale, _SCALE - 1)
        start = round(self.at[0] * _SCALE - self.align * width), round(self.at[1] * _SCALE)
        cv2.putText(canvas, self.text, start, font, scale, INK, _SCALE - 1, cv2.LINE_AA)

    def add_to(self, figure: Figure, layout: Transform) -> None:
        """Add the text to a figure of matplotlib."""
        align = {0: "left", 0.5: "center", 1: "right"}[self.align]
        size = self.height / 0.73 * _POINT  # a capital of DejaVu Sans has 0.73 of the font size
        figure.text(*self.at, self.text, transform=layout, size=size, color=_hex(INK), ha=align)


@dataclass(frozen=True)
class Drawing:
    """A picture of a width and a height, with marks in the order in which they are drawn."""

    width: int
    height: int
    marks: list[Line | Dots | Text] = field(default_factory=list)

    def add(self, *marks: Line | Dots | Text) -> None:
        """Draw marks on top of the others."""
        self.marks.extend(marks)

    def file(self, ending: str) -> bytes:
        """Return the file of the drawing, with one of ENDINGS. All but .png need matplotlib."""
        return self._png() if ending == ".png" else self._vectors(ending)

    def _png(self) -> bytes:
        canvas = np.full((self.height * _SCALE, self.width * _SCALE, 3), 255, np.uint8)
        for mark in self.marks:
            mark.paint(canvas)
        return png(canvas)

    def _vectors(self, ending: str) -> bytes:
        from matplotlib.figure import Figure
        from matplotlib.transforms import Affine2D

        from camcli.render.figure_files import figure_file, matplotlib_settings

        with matplotlib_settings():
            figure = Figure(figsize=(self.width / _PER_INCH, self.height / _PER_INCH))
            layout = Affine2D().scale(1 / self.width, -1 / self.height).translate(0, 1)
            for mark in self.marks:
                mark.add_to(figure, layout + figure.transFigure)
            return figure_file(figure, ending, _PER_INCH)


def _add_line(
    figure: Figure, layout: Transform, points: Floats, colour: Colour, **look: Any
) -> None:
    from matplotlib.lines import Line2D

    figure.add_artist(Line2D(*points.T, transform=layout, color=_hex(colour), **look))


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _dashes(points: Floats) -> list[Floats]:
    """Return the dashes of a line through points (P,2)."""
    run = np.concatenate([[0], np.hypot(*np.diff(points, axis=0).T).cumsum()])
    strokes = []
    for start in np.arange(0, run[-1], 1.5 * _DASH):
        end = min(start + _DASH, run[-1])
        ends = [start, *run[(run > start) & (run < end)], end]
        strokes.append(np.stack([np.interp(ends, run, points[:, i]) for i in range(2)], axis=1))
    return strokes


def _rounded(points: Floats) -> NDArray[np.int32]:
    return np.asarray(np.rint(points * _SCALE), np.int32)
