"""Plots of a summary: a curve for each metric that has one, and the distribution of all values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from camcli.evaluation.baselines import BASELINES
from camcli.evaluation.estimates import Estimate
from camcli.evaluation.registry import METRICS, Curve, Metric
from camcli.evaluation.scores import Floats
from camcli.evaluation.summary import Summary
from camcli.images.geometry import Pixels
from camcli.render.draw import png

Colour = tuple[int, int, int]

_INK, _FAINT = (40, 40, 40), (222, 222, 222)
_METHODS: tuple[Colour, ...] = (
    *((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167)),
    *((230, 159, 0), (86, 180, 233), (120, 94, 240), (150, 75, 0)),
)
"""Okabe and Ito's colours, which colour-blind people can distinguish, and two more. Further methods
repeat them with dashed lines."""
_DASH = 6
"""The length of a dash. A gap is half as long."""
_BASELINES: tuple[Colour, ...] = ((120, 120, 120), (175, 175, 175))
_SCALE = 2
"""Pixels of the picture for a pixel of the layout."""


@dataclass(frozen=True)
class Panel:
    """A rectangle x0, y0, x1, y1 of a canvas with the ranges of the data that it shows."""

    canvas: Pixels
    box: tuple[int, int, int, int]
    x: tuple[float, float]
    y: tuple[float, float]

    def place(self, points: Floats) -> NDArray[np.int32]:
        """Return the pixels of the picture at which points (P,2) of the data lie."""
        x0, y0, x1, y1 = self.box
        low = np.array([self.x[0], self.y[0]])
        share = (points - low) / (np.array([self.x[1], self.y[1]]) - low)
        placed = np.array([x0, y1]) + share * np.array([x1 - x0, y0 - y1])
        return np.asarray(np.rint(placed * _SCALE), np.int32)

    def frame(self, ticks: Sequence[float], y_ticks: Sequence[float] = ()) -> None:
        """Draw the axis and the ticks with their numbers; those of y as horizontal lines."""
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


def plots(summary: Summary) -> dict[str, bytes]:
    """Return PNG files by name, one for each curve and `distributions.png`."""
    found = {
        f"{name}.png": png(_curves(summary, METRICS[name], curve))
        for name, curve in summary.curves.items()
    }
    return found | {"distributions.png": png(_distributions(summary))}


def plot_names() -> list[str]:
    """Return the names of all files that `plots` may return."""
    curves = (name for name, metric in METRICS.items() if isinstance(metric.trace, Curve))
    return [f"{name}.png" for name in (*curves, "distributions")]


def _curves(summary: Summary, metric: Metric, curves: Floats) -> Pixels:
    trace, rows = metric.trace, summary.scores.study.rows
    assert isinstance(trace, Curve)
    canvas = _blank(640, 400)
    x = _positions(trace, curves.shape[1])
    ticks, span = [0, 0.2, 0.4, 0.6, 0.8, 1], (0.0, 1.0)
    if trace.points == "numbered":
        ticks, span = [*map(int, x)], (1.0, float(len(x))) if len(x) > 1 else (0.0, 2.0)
    known = curves[np.isfinite(curves)]
    y_ticks = _round_ticks(min(0.0, known.min(initial=0)), max(known.max(initial=0), 1e-3))
    panel = Panel(canvas, (64, 44, 478, 340), span, (y_ticks[0], y_ticks[-1]))
    panel.frame(ticks, y_ticks)
    for i, (curve, colour) in enumerate(zip(curves, _colours(rows), strict=True)):
        points = panel.place(np.nan_to_num(np.stack([x, curve], axis=1)))
        thickness = _SCALE if rows[i] in BASELINES else 2 * _SCALE
        for part in _split(points, np.isfinite(curve)):
            _draw_line(canvas, part, colour, thickness, dashed=_dashed(i, rows))
    images = f"{len(summary.scores.classes)} images"
    title = f"{metric.name}: {trace.y}, {images} ({metric.better} is better)"
    _text(canvas, title, (16, 24), 0.48)
    _text(canvas, trace.x, (271, 384), align=0.5)
    _legend(canvas, rows, (494, 64))
    return canvas


def _split(points: NDArray[np.int32], defined: NDArray[np.bool_]) -> list[NDArray[np.int32]]:
    """Split points (P,2) at those that are not defined, and leave these out."""
    inner = np.flatnonzero(np.diff(defined)) + 1
    pieces = zip(np.split(points, inner), np.split(defined, inner), strict=True)
    return [piece for piece, known in pieces if known[0]]


def _draw_line(
    canvas: Pixels, points: NDArray[np.int32], colour: Colour, thickness: int, *, dashed: bool
) -> None:
    """Draw a line through points (P,2) in pixels of the picture, or a dot for a single point."""
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


def _positions(trace: Curve, count: int) -> Floats:
    """Return the x positions of a curve's points, (count,)."""
    return {
        "closed": np.linspace(0, 1, count),
        "open": np.linspace(0, 1, count + 2)[1:-1],
        "numbered": np.arange(1.0, count + 1),
    }[trace.points]


def _distributions(summary: Summary) -> Pixels:
    """Draw a panel for each metric: a dot for each image, the mean, and its interval as a bar."""
    values, height = summary.scores.values, 62 + 26 * len(summary.scores.study.rows)
    panels = [
        _distribution(METRICS[name], column, values[name], height)
        for name, column in summary.estimates.items()
    ]
    return np.vstack(panels)


def _distribution(
    metric: Metric, column: Mapping[str, Estimate], values: Floats, height: int
) -> Pixels:
    canvas = _blank(640, height)
    known = values[np.isfinite(values)]
    low, high = (min(0.0, known.min()), max(known.max(), 1e-3)) if known.size else (0.0, 1.0)
    ticks = _round_ticks(low, high)
    panel = Panel(canvas, (170, 32, 620, height - 28), (ticks[0], ticks[-1]), (len(column), 0))
    panel.frame(ticks)
    unit = ", percent" if metric.percent else ""
    _text(canvas, f"{metric.name}{unit} ({metric.better} is better)", (16, 20), 0.48)
    for i, (row, estimate) in enumerate(column.items()):
        colour = _colours(list(column))[i]
        middle = i + 0.5
        (at,) = panel.place(np.array([[panel.x[0], middle]]))
        _text(canvas, row, (160, int(at[1]) // _SCALE + 4), align=1)
        of_row = values[i][np.isfinite(values[i])]
        # Spread vertically, so that equal values can be counted.
        spread = middle + 0.3 * (np.modf(np.arange(len(of_row)) * 0.618)[0] - 0.5)
        faint = tuple(int(160 + 0.37 * c) for c in colour)
        for x, y in panel.place(np.stack([of_row, spread], axis=1)).tolist():
            cv2.circle(canvas, (x, y), 3 * _SCALE, faint, -1, cv2.LINE_AA)
        if np.isfinite(mean := estimate.mean):
            low, high = (estimate.low, estimate.high) if estimate.images > 1 else (mean, mean)
            bar = np.array([[low, middle], [high, middle], [mean, middle]])
            start, end, centre = panel.place(bar).tolist()
            cv2.line(canvas, start, end, colour, 2 * _SCALE, cv2.LINE_AA)
            cv2.circle(canvas, centre, 4 * _SCALE, colour, -1, cv2.LINE_AA)
    return canvas


def _round_ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers, evenly spaced, that enclose the range."""
    rough = (high - low) / 4
    power = 10 ** np.floor(np.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    return [round(float(i * step), 10) for i in range(int(first), int(last) + 1)]


def _dashed(i: int, rows: Sequence[str]) -> bool:
    return len(_METHODS) <= i < len(rows) - len(BASELINES)


def _colours(rows: Sequence[str]) -> list[Colour]:
    methods = len(rows) - len(BASELINES)
    return [*(_METHODS[i % len(_METHODS)] for i in range(methods)), *_BASELINES]


def _legend(canvas: Pixels, rows: Sequence[str], corner: tuple[int, int]) -> None:
    x, y = corner
    for i, (row, colour) in enumerate(zip(rows, _colours(rows), strict=True)):
        ends = np.array([[x, y + 20 * i], [x + 20, y + 20 * i]], np.int32) * _SCALE
        _draw_line(canvas, ends, colour, 3 * _SCALE, dashed=_dashed(i, rows))
        _text(canvas, row, (x + 26, y + 20 * i + 4))


def _text(
    canvas: Pixels, text: str, at: tuple[int, int], size: float = 0.4, align: float = 0
) -> None:
    """Draw text that starts at a point (align 0), is centred on it (0.5) or ends at it (1)."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, size * _SCALE
    (width, _), _ = cv2.getTextSize(text, font, scale, _SCALE - 1)
    start = (int(at[0] * _SCALE - align * width), at[1] * _SCALE)
    cv2.putText(canvas, text, start, font, scale, _INK, _SCALE - 1, cv2.LINE_AA)


def _blank(width: int, height: int) -> Pixels:
    return np.full((height * _SCALE, width * _SCALE, 3), 255, np.uint8)
