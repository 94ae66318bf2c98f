"""Intervals of means over images.

They are Student's for few images and bootstrap intervals for many: resampling few images
underestimates how much their mean varies. tests/evaluation/test_intervals.py has how often either
is wrong.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from camcli.images.geometry import Floats

RESAMPLES = 2000
LEVEL = 0.95
BOOTSTRAP_IMAGES = 40
"""The least number of images for a bootstrap interval."""
MOST_RESAMPLED = 20_000
"""The most images that are resampled. Of more, Student's interval is the same to three digits."""
MIN_IMAGES = 6
"""The least number of images for a significant difference. If all differences are equal, as those
of hits often are, Student's interval has no width for any number of images. A method that is no
better than a baseline is ahead on all of six images with probability 1/64, on all of five with
1/32, which is more than LEVEL allows."""


def kind_of_interval(count: int) -> str | None:
    """Return the name of the kind of interval of `count` images, None without an interval."""
    if count < 2:
        return None
    return "bootstrap" if BOOTSTRAP_IMAGES <= count <= MOST_RESAMPLED else "Student's t"


def mean_intervals(values: Floats, seed: int) -> Floats:
    """Return the interval of the mean of each row of (M,n), (M,2); NaN for n < 2."""
    count = values.shape[1]
    if count < 2:
        return np.full((len(values), 2), np.nan)
    resampled = kind_of_interval(count) == "bootstrap"
    return _bootstrap(values, seed) if resampled else _student(values)


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
