"""Plots of a summary: a curve for each metric that has one, and the distribution of all values."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camcli.evaluation.baselines import BASELINES
from camcli.evaluation.drawing import ENDINGS, Colour, Dots, Drawing, Line, Text
from camcli.evaluation.estimates import Estimate
from camcli.evaluation.registry import METRICS, Curve, Metric
from camcli.evaluation.scores import Floats
from camcli.evaluation.summary import Summary
from camcli.render.numbers import format_number

_FAINT = (222, 222, 222)
_METHODS: tuple[Colour, ...] = (
    *((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167)),
    *((230, 159, 0), (86, 180, 233), (120, 94, 240), (150, 75, 0)),
)
"""Okabe and Ito's colours, which colour-blind people can distinguish, and two more. Further methods
repeat them with dashed lines."""
_BASELINES: tuple[Colour, ...] = ((120, 120, 120), (175, 175, 175))
_TITLE = 10.0
"""The height of a title's capitals."""
_WIDTH = 640


@dataclass(frozen=True)
class Panel:
    """A rectangle x0, y0, x1, y1 of a drawing with the ranges of the data that it shows."""

    drawing: Drawing
    box: tuple[int, int, int, int]
    x: tuple[float, float]
    y: tuple[float, float]

    def place(self, points: Floats) -> Floats:
        """Return where points (P,2) of the data lie in the drawing."""
        x0, y0, x1, y1 = self.box
        low = np.array([self.x[0], self.y[0]])
        share = (points - low) / (np.array([self.x[1], self.y[1]]) - low)
        return np.asarray(np.array([x0, y1]) + share * np.array([x1 - x0, y0 - y1]))

    def frame(self, ticks: Sequence[float], y_ticks: Sequence[float] = ()) -> None:
        """Draw the axis and the ticks with their numbers; those of y as horizontal lines."""
        x0, _, x1, y1 = self.box
        for value in y_ticks:
            (_, y) = self.place(np.array([[self.x[0], value]]))[0]
            self.drawing.add(
                Line(np.array([[x0, y], [x1, y]]), _FAINT),
                Text(format_number(value, 6), (x0 - 6, y + 4), align=1),
            )
        for value in ticks:
            (x, _) = self.place(np.array([[value, self.y[0]]]))[0]
            self.drawing.add(
                Line(np.array([[x, y1], [x, y1 + 4]])),
                Text(format_number(value, 6), (x, y1 + 18), align=0.5),
            )
        self.drawing.add(Line(np.array([[x0, y1], [x1, y1]], float)))


def plots(summary: Summary, endings: Sequence[str] = (".png",)) -> dict[str, bytes]:
    """Return files by name: with each of the endings, one for each curve and `distributions`.

    All but .png need matplotlib.
    """
    drawings = {
        name: _curves(summary, METRICS[name], curve) for name, curve in summary.curves.items()
    }
    drawings["distributions"] = _distributions(summary)
    return {
        f"{name}{ending}": drawing.file(ending)
        for name, drawing in drawings.items()
        for ending in endings
    }


def plot_names() -> list[str]:
    """Return the names of all files that `plots` may return."""
    curves = (name for name, metric in METRICS.items() if isinstance(metric.trace, Curve))
    names = itertools.product((*curves, "distributions"), ENDINGS)
    return [f"{name}{ending}" for name, ending in names]


def _curves(summary: Summary, metric: Metric, curves: Floats) -> Drawing:
    trace, rows = metric.trace, summary.scores.study.rows
    assert isinstance(trace, Curve)
    drawing = Drawing(_WIDTH, 400)
    x = _positions(trace, curves.shape[1])
    ticks, span = [0, 0.2, 0.4, 0.6, 0.8, 1], (0.0, 1.0)
    if trace.points == "numbered":
        ticks, span = [*map(int, x)], (1.0, float(len(x))) if len(x) > 1 else (0.0, 2.0)
    known = curves[np.isfinite(curves)]
    y_ticks = _round_ticks(min(0.0, known.min(initial=0)), max(known.max(initial=0), 1e-3))
    panel = Panel(drawing, (64, 44, 478, 340), span, (y_ticks[0], y_ticks[-1]))
    panel.frame(ticks, y_ticks)
    for i, (curve, colour) in enumerate(zip(curves, _colours(rows), strict=True)):
        points = panel.place(np.nan_to_num(np.stack([x, curve], axis=1)))
        thickness = 1 if rows[i] in BASELINES else 2
        for part in _split(points, np.isfinite(curve)):
            single = len(part) == 1
            line = Line(part, colour, thickness, dashed=_dashed(i, rows))
            drawing.add(Dots(part, colour, 2 * thickness) if single else line)
    images = f"{len(summary.scores.classes)} images"
    title = f"{metric.name}: {trace.y}, {images} ({metric.better} is better)"
    drawing.add(Text(title, (16, 24), _TITLE), Text(trace.x, (271, 384), align=0.5))
    _legend(drawing, rows, (494, 64))
    return drawing


def _split(points: Floats, defined: NDArray[np.bool_]) -> list[Floats]:
    """Split points (P,2) at those that are not defined, and leave these out."""
    inner = np.flatnonzero(np.diff(defined)) + 1
    pieces = zip(np.split(points, inner), np.split(defined, inner), strict=True)
    return [piece for piece, known in pieces if known[0]]


def _positions(trace: Curve, count: int) -> Floats:
    """Return the x positions of a curve's points, (count,)."""
    return {
        "closed": np.linspace(0, 1, count),
        "open": np.linspace(0, 1, count + 2)[1:-1],
        "numbered": np.arange(1.0, count + 1),
    }[trace.points]


def _distributions(summary: Summary) -> Drawing:
    """Draw a panel for each metric: a dot for each image, the mean, and its interval as a bar."""
    values, height = summary.scores.values, 62 + 26 * len(summary.scores.study.rows)
    drawing = Drawing(_WIDTH, height * len(summary.estimates))
    for number, (name, column) in enumerate(summary.estimates.items()):
        top = number * height
        _distribution(drawing, (top, top + height), METRICS[name], column, values[name])
    return drawing


def _distribution(
    drawing: Drawing,
    y: tuple[int, int],
    metric: Metric,
    column: Mapping[str, Estimate],
    values: Floats,
) -> None:
    known = values[np.isfinite(values)]
    low, high = (min(0.0, known.min()), max(known.max(), 1e-3)) if known.size else (0.0, 1.0)
    ticks, box = _round_ticks(low, high), (170, y[0] + 32, 620, y[1] - 28)
    panel = Panel(drawing, box, (ticks[0], ticks[-1]), (len(column), 0))
    panel.frame(ticks)
    unit = ", percent" if metric.percent else ""
    drawing.add(Text(f"{metric.name}{unit} ({metric.better} is better)", (16, y[0] + 20), _TITLE))
    for i, (row, estimate) in enumerate(column.items()):
        _draw_values(panel, row, values[i], _colours(list(column))[i], i + 0.5)
        _draw_estimate(panel, estimate, _colours(list(column))[i], i + 0.5)


def _draw_values(panel: Panel, row: str, values: Floats, colour: Colour, middle: float) -> None:
    _, y = panel.place(np.array([[panel.x[0], middle]]))[0]
    panel.drawing.add(Text(row, (160, y + 4), align=1))
    known = values[np.isfinite(values)]
    # Spread vertically, so that equal values can be counted.
    spread = middle + 0.3 * (np.modf(np.arange(len(known)) * 0.618)[0] - 0.5)
    red, green, blue = (int(160 + 0.37 * channel) for channel in colour)
    places = panel.place(np.stack([known, spread], axis=1))
    panel.drawing.add(Dots(places, (red, green, blue), 3))


def _draw_estimate(panel: Panel, estimate: Estimate, colour: Colour, middle: float) -> None:
    """Draw a mean and its interval. An interval that goes beyond the axis ends in an arrow."""
    mean = estimate.mean
    if not np.isfinite(mean):
        return
    interval = (estimate.low, estimate.high) if estimate.images > 1 else (mean, mean)
    shown = np.clip(interval, *panel.x)
    places = panel.place(np.array([[x, middle] for x in (*shown, mean)]))
    panel.drawing.add(Line(places[:2], colour, 2), Dots(places[2:], colour, 4))
    for end, cut, size in zip(places, shown != interval, (6, -6), strict=False):
        if cut:
            head = np.array([[size, -size], [0, 0], [size, size]])
            panel.drawing.add(Line(end + head, colour, 2))


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


def _legend(drawing: Drawing, rows: Sequence[str], corner: tuple[int, int]) -> None:
    x, y = corner
    for i, (row, colour) in enumerate(zip(rows, _colours(rows), strict=True)):
        ends = np.array([[x, y + 20 * i], [x + 20, y + 20 * i]], float)
        drawing.add(
            Line(ends, colour, 3, dashed=_dashed(i, rows)), Text(row, (x + 26, y + 20 * i + 4))
        )
