"""Means over images, how sure they are, and whether a method beats the controls."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from camcli.evaluation.baselines import CONTROLS
from camcli.evaluation.metrics import METRICS, Metric
from camcli.evaluation.run import Scores

RESAMPLES = 2000
LEVEL = 0.95
FEWEST = 6
"""Images that prove anything: were a method no better than a control, it would be ahead on all of
six in 1 of 64 tables, on all of five in 1 of 32, which is more often than LEVEL allows."""


@dataclass(frozen=True)
class Cell:
    """A metric's mean for one row over `images` images, and its bootstrap interval.

    The images are those for which the row has a value. NaN where there is none; a single one has no
    interval. `verdict` is `beats` where the mean is better than each control's, and so is the whole
    interval of the paired differences of FEWEST images or more; `unsure` where only the mean is;
    `fails` where it is not; None for the controls themselves, and where the comparison says
    nothing.
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
        name: {
            row: _cell(METRICS[name], i, values, seed) for i, row in enumerate(scores.study.rows)
        }
        for name, values in scores.values.items()
    }


def bootstrap(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """The interval of the mean of each row of (M,n), by resampling images: (M,2), NaN for n < 2.

    The same images are drawn for all rows.
    """
    count = values.shape[1]
    if count < 2:
        return np.full((len(values), 2), np.nan)
    parts = [values @ part.T.astype(float) for part in _drawn(count, seed)]
    means = np.concatenate(parts, axis=1) / count
    tails = [100 * (1 - LEVEL) / 2, 100 * (1 + LEVEL) / 2]
    return np.asarray(np.percentile(means, tails, axis=1).T)


@lru_cache(maxsize=2)
def _drawn(count: int, seed: int) -> list[NDArray[np.uint8]]:
    """How often each resample has each of `count` images, (RESAMPLES,count) in parts.

    Drawn once for all rows and metrics, and small: tens of thousands of images are no rarity.
    """
    generator, each, at_once = np.random.default_rng(seed), np.full(count, 1 / count), 100
    parts = (generator.multinomial(count, each, at_once) for _ in range(RESAMPLES // at_once))
    return [part.astype(np.uint8) for part in parts]  # at most `count`, and seldom above ten


def _cell(metric: Metric, row: int, values: NDArray[np.float64], seed: int) -> Cell:
    """A row of a metric's values (M,n), over the images for which it has one."""
    own = values[row, np.isfinite(values[row])]
    mean = float(own.mean()) if own.size else float("nan")
    ((low, high),) = bootstrap(own[None], seed).tolist()
    return Cell(mean, low, high, own.size, _verdict(metric, row, values, seed))


def _verdict(metric: Metric, row: int, values: NDArray[np.float64], seed: int) -> str | None:
    """How a row compares with the controls, on the images for which all of them have a value."""
    if not metric.controlled or row >= len(values) - len(CONTROLS):
        return None
    sign = 1 if metric.better == "higher" else -1
    ahead = sign * (values[row] - values[-len(CONTROLS) :])
    ahead = ahead[:, np.isfinite(ahead).all(0)]
    if not ahead.size:
        return None
    if ahead.mean(1).min() <= 0:
        return "fails"
    sure = ahead.shape[1] >= FEWEST and bootstrap(ahead, seed)[:, 0].min() > 0
    return "beats" if sure else "unsure"
