"""Means over images, how sure they are, and whether a method beats the controls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camcli.evaluation.controls import CONTROLS
from camcli.evaluation.metrics import METRICS, Metric
from camcli.evaluation.run import Scores

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Cell:
    """A metric's mean for one row over `images` images, and its bootstrap interval.

    `verdict` is `beats` where the mean is better than each control's, and so is the whole interval
    of the paired differences; `unsure` where only the mean is; `fails` where it is not; None for
    the controls themselves, and where the comparison says nothing.
    """

    mean: float
    low: float
    high: float
    images: int
    verdict: str | None = None


def cells(scores: Scores) -> dict[str, dict[str, Cell]]:
    """By metric and row, in the table's order."""
    seed = scores.study.protocol.seed
    return {
        name: dict(zip(scores.study.rows, _column(METRICS[name], values, seed), strict=True))
        for name, values in scores.values.items()
    }


def bootstrap(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """The interval of the mean of each row of (M,n), by resampling images: (M,2), NaN for n = 0.

    The same images are drawn for all rows.
    """
    count = values.shape[1]
    if not count:
        return np.full((len(values), 2), np.nan)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    means = values @ (drawn / count).T
    tails = [100 * (1 - LEVEL) / 2, 100 * (1 + LEVEL) / 2]
    return np.asarray(np.percentile(means, tails, axis=1).T)


def _column(metric: Metric, values: NDArray[np.float64], seed: int) -> list[Cell]:
    """The cells of one metric, (M,n), over the images that it is defined on for all rows."""
    values = values[:, np.isfinite(values).all(0)]
    count = values.shape[1]
    means = values.mean(1) if count else np.full(len(values), np.nan)
    limits = bootstrap(values, seed)
    verdicts = _verdicts(metric, values, seed)
    return [
        Cell(float(mean), float(low), float(high), count, verdict)
        for mean, (low, high), verdict in zip(means, limits, verdicts, strict=True)
    ]


def _verdicts(metric: Metric, values: NDArray[np.float64], seed: int) -> list[str | None]:
    methods, controls = values[: -len(CONTROLS)], values[-len(CONTROLS) :]
    nothing: list[str | None] = [None] * len(values)
    if not metric.controlled or not values.shape[1]:
        return nothing
    sign = 1 if metric.better == "higher" else -1
    ahead = [sign * (methods - control) for control in controls]
    means = np.min([lead.mean(1) for lead in ahead], axis=0)
    lowest = np.min([bootstrap(lead, seed)[:, 0] for lead in ahead], axis=0)
    found = np.where(means <= 0, "fails", np.where(lowest <= 0, "unsure", "beats"))
    return [*map(str, found), *nothing[: len(controls)]]
