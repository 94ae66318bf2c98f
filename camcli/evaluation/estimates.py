"""A metric's means over images, their intervals, and the comparison of methods with baselines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from camcli.evaluation.baselines import BASELINES
from camcli.evaluation.intervals import MIN_IMAGES, kind_of_interval, mean_intervals
from camcli.evaluation.registry import METRICS, Metric
from camcli.evaluation.scores import Floats, Scores

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
        return kind_of_interval(self.images)


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
