"""Means over images, their intervals, and the comparison of methods with baselines.

Intervals are Student's for few images and bootstrap intervals for many: resampling few images
underestimates how much their mean varies. tests/evaluation/test_intervals.py has how often either
is wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from camcli.evaluation.baselines import BASELINES
from camcli.evaluation.registry import METRICS, Metric
from camcli.evaluation.scores import Floats, Scores

RESAMPLES = 2000
LEVEL = 0.95
BOOTSTRAP_IMAGES = 40
"""The least number of images for a bootstrap interval."""
MIN_IMAGES = 6
"""The least number of images for a significant difference. If all differences are equal, as those
of hits often are, Student's interval has no width for any number of images. A method that is no
better than a baseline is ahead on all of six images with probability 1/64, on all of five with
1/32, which is more than LEVEL allows."""

Verdict: TypeAlias = Literal["beats", "unsure", "fails"]


@dataclass(frozen=True)
class Estimate:
    """A metric's mean for one row over `images` images, with its interval.

    Images for which the row has no value are left out. The mean is NaN without any image, the
    interval with fewer than two. `verdict` is `beats` if the mean is better than each baseline's
    and so are the intervals of the paired differences over at least MIN_IMAGES images; `unsure` if
    only the mean is better; `fails` if it is not. It is None for baselines and for metrics that are
    not compared with them.
    """

    mean: float
    low: float
    high: float
    images: int
    verdict: Verdict | None = None

    @property
    def interval(self) -> str | None:
        """The name of the kind of interval, None without an interval."""
        if self.images < 2:
            return None
        return "Student's t" if self.images < BOOTSTRAP_IMAGES else "bootstrap"


def estimates(scores: Scores) -> dict[str, dict[str, Estimate]]:
    """Return the estimates by metric and row, in the table's order."""
    seed = scores.study.protocol.seed
    return {
        name: {
            row: _estimate(METRICS[name], i, values, seed)
            for i, row in enumerate(scores.study.rows)
        }
        for name, values in scores.values.items()
    }


def mean_intervals(values: Floats, seed: int) -> Floats:
    """Return the interval of the mean of each row of (M,n), (M,2); NaN for n < 2."""
    count = values.shape[1]
    if count < 2:
        return np.full((len(values), 2), np.nan)
    return _student(values) if count < BOOTSTRAP_IMAGES else _bootstrap(values, seed)


def _student(values: Floats) -> Floats:
    """Return Student's intervals. They may extend beyond the metric's range."""
    count = values.shape[1]
    half = _student_quantile(count - 1) * values.std(1, ddof=1) / math.sqrt(count)
    return np.asarray(values.mean(1)[:, None] + np.outer(half, [-1, 1]))


@lru_cache
def _student_quantile(freedom: int) -> float:
    """Return the limit of |t| at LEVEL: t = sqrt(freedom) tan a has the density cos(a)^(freedom-1).

    By the midpoint rule, exact to seven digits.
    """
    edges = np.linspace(0, math.pi / 2, 10_001)
    share = np.cumsum(np.cos((edges[:-1] + edges[1:]) / 2) ** (freedom - 1))
    angle = np.interp(LEVEL, share / share[-1], edges[1:])
    return math.sqrt(freedom) * math.tan(angle)


def _bootstrap(values: Floats, seed: int) -> Floats:
    """Return bootstrap intervals. Images are resampled, the same ones for all rows."""
    count = values.shape[1]
    parts = [values @ part.T.astype(float) for part in _resampled(count, seed)]
    means = np.concatenate(parts, axis=1) / count
    tails = [100 * (1 - LEVEL) / 2, 100 * (1 + LEVEL) / 2]
    return np.asarray(np.percentile(means, tails, axis=1).T)


@lru_cache(maxsize=2)
def _resampled(count: int, seed: int) -> list[NDArray[np.uint8]]:
    """Return how often each resample draws each image, (RESAMPLES,count) in parts.

    Drawn once for all rows and metrics. Bytes keep it small for tens of thousands of images.
    """
    generator, each, at_once = np.random.default_rng(seed), np.full(count, 1 / count), 100
    parts = (generator.multinomial(count, each, at_once) for _ in range(RESAMPLES // at_once))
    return [part.astype(np.uint8) for part in parts]  # counts above ten are rare


def _estimate(metric: Metric, row: int, values: Floats, seed: int) -> Estimate:
    own = values[row, np.isfinite(values[row])]
    mean = float(own.mean()) if own.size else float("nan")
    ((low, high),) = mean_intervals(own[None], seed).tolist()
    return Estimate(mean, low, high, own.size, _verdict(metric, row, values, seed))


def _verdict(metric: Metric, row: int, values: Floats, seed: int) -> Verdict | None:
    """Compare a row with the baselines on the images for which all of them have a value."""
    if not metric.compared or row >= len(values) - len(BASELINES):
        return None
    sign = 1 if metric.better == "higher" else -1
    ahead = sign * (values[row] - values[-len(BASELINES) :])
    ahead = ahead[:, np.isfinite(ahead).all(0)]
    if not ahead.size:
        return None
    if ahead.mean(1).min() <= 0:
        return "fails"
    significant = ahead.shape[1] >= MIN_IMAGES and mean_intervals(ahead, seed)[:, 0].min() > 0
    return "beats" if significant else "unsure"
