"""Pictures of an evaluation: curves over what was changed, and how values spread over images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from camcli.evaluation.baselines import CONTROLS
from camcli.evaluation.evidence import REMOVED
from camcli.evaluation.intervals import Cell
from camcli.evaluation.metrics import METRICS
from camcli.evaluation.run import Scores, Values
from camcli.evaluation.summary import Summary
from camcli.images.geometry import Pixels
from camcli.render.draw import png

Points = NDArray[np.float64]
Colour = tuple[int, int, int]

_INK, _FAINT = (40, 40, 40), (222, 222, 222)
_METHODS: tuple[Colour, ...] = (
    *((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167)),
    *((230, 159, 0), (86, 180, 233), (120, 94, 240), (150, 75, 0)),
)
"""Okabe and Ito's colours, which colour-blind people can tell apart, and two more. The
methods after them have the same in dashes."""
_DASH = 6
"""The length of a dash; the gap behind it is half as long."""
_CONTROLS: tuple[Colour, ...] = ((120, 120, 120), (175, 175, 175))
_SCALE = 2
"""Pixels are drawn twice as fine as text is laid out in."""

AXES: Mapping[str, tuple[str, str]] = {
    "insertion": ("share of pixels inserted", "probability"),
    "deletion": ("share of pixels removed", "probability"),
    "road": ("share of highest pixels imputed", "class stays the best"),
    "road-least": ("share of lowest pixels imputed", "class stays the best"),
    "sanity": ("stage of randomisation, the logits first", "rank correlation"),
}


@dataclass(frozen=True)
class Panel:
    """A rectangle x0, y0, x1, y1 of a canvas, and the ranges of data that it shows."""

    canvas: Pixels
    box: tuple[int, int, int, int]
    x: tuple[float, float]
    y: tuple[float, float]

    def place(self, points: Points) -> NDArray[np.int32]:
        """Where points (P,2) of data lie on the canvas, in the drawing's own pixels."""
        x0, y0, x1, y1 = self.box
        low = np.array([self.x[0], self.y[0]])
        share = (points - low) / (np.array([self.x[1], self.y[1]]) - low)
        placed = np.array([x0, y1]) + share * np.array([x1 - x0, y0 - y1])
        return np.asarray(np.rint(placed * _SCALE), np.int32)

    def frame(self, ticks: Sequence[float], y_ticks: Sequence[float] = ()) -> None:
        """Draw ticks with their numbers, those of y as lines across."""
        x0, _, _, y1 = self.box
        for value in y_ticks:
            line = self.place(np.array([[self.x[0], value], [self.x[1], value]]))
            cv2.line(self.canvas, line[0].tolist(), line[1].tolist(), _FAINT, _SCALE)
            _text(self.canvas, f"{value:g}", (x0 - 6, line[0][1] // _SCALE + 4), align=1)
        for value in ticks:
            (at,) = self.place(np.array([[value, self.y[0]]]))
            cv2.line(self.canvas, at.tolist(), (int(at[0]), int(at[1]) + 4 * _SCALE), _INK, _SCALE)
            _text(self.canvas, f"{value:g}", (int(at[0]) // _SCALE, y1 + 18), align=0.5)
        corners = [[self.x[0], self.y[0]], [self.x[1], self.y[0]]]
        line = self.place(np.array(corners))
        cv2.line(self.canvas, line[0].tolist(), line[1].tolist(), _INK, _SCALE)


def pictures(summary: Summary) -> dict[str, bytes]:
    """PNG files by name: one for each metric that has a curve, and `distributions.png`."""
    found = {
        f"{name}.png": png(_curves(summary.scores, name, curve))
        for name, curve in summary.curves.items()
    }
    return found | {"distributions.png": png(_distributions(summary))}


def _curves(scores: Scores, name: str, curve: Values) -> Pixels:
    rows = scores.study.rows
    canvas = _blank(640, 400)
    x = _positions(name, curve.shape[1])
    ticks, span = [0, 0.2, 0.4, 0.6, 0.8, 1], (0.0, 1.0)
    if METRICS[name].unlearns:
        ticks, span = [*map(int, x)], (1.0, float(len(x))) if len(x) > 1 else (0.0, 2.0)
    known = curve[np.isfinite(curve)]
    y_ticks = _round_ticks(min(0.0, known.min(initial=0)), max(known.max(initial=0), 1e-3))
    panel = Panel(canvas, (64, 44, 478, 340), span, (y_ticks[0], y_ticks[-1]))
    panel.frame(ticks, y_ticks)
    for i, (line, colour) in enumerate(zip(curve, _colours(rows), strict=True)):
        points = panel.place(np.nan_to_num(np.stack([x, line], axis=1)))
        thickness = _SCALE if rows[i] in CONTROLS else 2 * _SCALE
        for part in _parts(points, np.isfinite(line)):
            _line(canvas, part, colour, thickness, dashed=_dashed(i, rows))
    better = METRICS[name].better
    across, up = AXES.get(name, ("step", "value"))
    _text(canvas, f"{name}: {up}, {len(scores.facts)} images ({better} is better)", (16, 24), 0.48)
    _text(canvas, across, (271, 384), align=0.5)
    _legend(canvas, rows, (494, 64))
    return canvas


def _parts(points: NDArray[np.int32], there: NDArray[np.bool_]) -> list[NDArray[np.int32]]:
    """The stretches of points (P,2) without a gap."""
    inner = np.flatnonzero(np.diff(there)) + 1
    pieces = zip(np.split(points, inner), np.split(there, inner), strict=True)
    return [piece for piece, known in pieces if known[0]]


def _line(
    canvas: Pixels, points: NDArray[np.int32], colour: Colour, thickness: int, *, dashed: bool
) -> None:
    """A line through points (P,2) in the drawing's own pixels; a single one is a dot."""
    if len(points) == 1:
        cv2.circle(canvas, points[0].tolist(), 2 * thickness, colour, -1, cv2.LINE_AA)
        return
    if not dashed:
        cv2.polylines(canvas, [points.reshape(-1, 1, 2)], False, colour, thickness, cv2.LINE_AA)
        return
    run = np.concatenate([[0], np.hypot(*np.diff(points, axis=0).T).cumsum()])
    dash = _DASH * _SCALE
    for start in np.arange(0, run[-1], 1.5 * dash):
        ends = [start, *run[(run > start) & (run < start + dash)], min(start + dash, run[-1])]
        xy = np.stack([np.interp(ends, run, points[:, i]) for i in range(2)], axis=1)
        stroke = np.asarray(np.rint(xy), np.int32).reshape(-1, 1, 2)
        cv2.polylines(canvas, [stroke], False, colour, thickness, cv2.LINE_AA)


def _positions(name: str, steps: int) -> Points:
    """Where the points of a metric's curve are: at shares of pixels, or at numbered stages."""
    if METRICS[name].trace in ("imputed", "spared"):
        return np.asarray(REMOVED, np.float64)
    if METRICS[name].trace == "unlearnt":
        return np.arange(1, steps + 1, dtype=np.float64)
    return np.linspace(0, 1, steps)


def _distributions(summary: Summary) -> Pixels:
    """A panel for each metric: each image's value as a dot, the mean and its interval as a bar."""
    values, height = summary.scores.values, 62 + 26 * len(summary.scores.study.rows)
    panels = [
        _distribution(name, column, values[name], height) for name, column in summary.cells.items()
    ]
    return np.vstack(panels)


def _distribution(name: str, column: Mapping[str, Cell], values: Values, height: int) -> Pixels:
    canvas, metric = _blank(640, height), METRICS[name]
    known = values[np.isfinite(values)]
    low, high = (min(0.0, known.min()), max(known.max(), 1e-3)) if known.size else (0.0, 1.0)
    ticks = _round_ticks(low, high)
    panel = Panel(canvas, (170, 32, 620, height - 28), (ticks[0], ticks[-1]), (len(column), 0))
    panel.frame(ticks)
    unit = ", percent" if metric.percent else ""
    _text(canvas, f"{name}{unit} ({metric.better} is better)", (16, 20), 0.48)
    for i, (row, cell) in enumerate(column.items()):
        colour = _colours(list(column))[i]
        middle = i + 0.5
        (at,) = panel.place(np.array([[panel.x[0], middle]]))
        _text(canvas, row, (160, int(at[1]) // _SCALE + 4), align=1)
        of_row = values[i][np.isfinite(values[i])]
        # Spread over the line's height, so that equal values can be counted.
        spread = middle + 0.3 * (np.modf(np.arange(len(of_row)) * 0.618)[0] - 0.5)
        faint = tuple(int(160 + 0.37 * c) for c in colour)
        for x, y in panel.place(np.stack([of_row, spread], axis=1)).tolist():
            cv2.circle(canvas, (x, y), 3 * _SCALE, faint, -1, cv2.LINE_AA)
        if np.isfinite(cell.mean):
            low, high = (cell.low, cell.high) if cell.images > 1 else (cell.mean, cell.mean)
            bar = np.array([[low, middle], [high, middle], [cell.mean, middle]])
            start, end, mean = panel.place(bar).tolist()
            cv2.line(canvas, start, end, colour, 2 * _SCALE, cv2.LINE_AA)
            cv2.circle(canvas, mean, 4 * _SCALE, colour, -1, cv2.LINE_AA)
    return canvas


def _round_ticks(low: float, high: float) -> list[float]:
    """About five round numbers, evenly spaced, that hold the range between them."""
    rough = (high - low) / 4
    power = 10 ** np.floor(np.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    return [round(float(i * step), 10) for i in range(int(first), int(last) + 1)]


def _dashed(i: int, rows: Sequence[str]) -> bool:
    return len(_METHODS) <= i < len(rows) - len(CONTROLS)


def _colours(rows: Sequence[str]) -> list[Colour]:
    methods = len(rows) - len(CONTROLS)
    return [*(_METHODS[i % len(_METHODS)] for i in range(methods)), *_CONTROLS]


def _legend(canvas: Pixels, rows: Sequence[str], corner: tuple[int, int]) -> None:
    x, y = corner
    for i, (row, colour) in enumerate(zip(rows, _colours(rows), strict=True)):
        ends = np.array([[x, y + 20 * i], [x + 20, y + 20 * i]], np.int32) * _SCALE
        _line(canvas, ends, colour, 3 * _SCALE, dashed=_dashed(i, rows))
        _text(canvas, row, (x + 26, y + 20 * i + 4))


def _text(
    canvas: Pixels, text: str, at: tuple[int, int], size: float = 0.4, align: float = 0
) -> None:
    """Text that begins at a point (0), has it in its middle (0.5) or ends there (1)."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, size * _SCALE
    (width, _), _ = cv2.getTextSize(text, font, scale, _SCALE - 1)
    start = (int(at[0] * _SCALE - align * width), at[1] * _SCALE)
    cv2.putText(canvas, text, start, font, scale, _INK, _SCALE - 1, cv2.LINE_AA)


def _blank(width: int, height: int) -> Pixels:
    return np.full((height * _SCALE, width * _SCALE, 3), 255, np.uint8)
