"""Intervals of means against theory, and how often a method that is no better seems to be."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np
import pytest

from camcli.evaluation.intervals import BOOTSTRAP_IMAGES, mean_intervals
from camcli.evaluation.scores import Floats

STUDIES = 20_000
Draw = Callable[[np.random.Generator, tuple[int, int]], Floats]


def paired(draw: Draw) -> Draw:
    """Return differences of two maps whose values have the same distribution."""
    return lambda random, shape: draw(random, shape) - draw(random, shape)


EXCHANGEABLE: dict[str, Draw] = {
    "normal": paired(lambda random, shape: random.normal(size=shape)),
    "exponential": paired(lambda random, shape: random.exponential(size=shape)),
    "shares": paired(lambda random, shape: random.beta(0.5, 0.5, shape)),
    "shares in tenths": paired(lambda random, shape: random.binomial(10, 0.3, shape) / 10),
    "hits": paired(lambda random, shape: random.binomial(1, 0.5, shape).astype(float)),
}
"""Values of a metric. The first are as in theory, the last ones have ties."""

SKEWED: dict[str, Draw] = {
    "exponential": lambda random, shape: 1 - random.exponential(size=shape),
    "shares": lambda random, shape: random.beta(4, 1, shape) - 0.8,
}
"""Differences of mean 0, most of them positive."""


def false_positives(draw: Draw, images: int) -> float:
    """Return how often the interval of differences of mean 0 is above 0."""
    differences = draw(np.random.default_rng(images), (STUDIES, images))
    return float((mean_intervals(differences, 0)[:, 0] > 0).mean())


@pytest.mark.parametrize("images", [6, 12, 20, 39])
@pytest.mark.parametrize("name", EXCHANGEABLE)
def test_a_map_that_is_no_better_beats_a_baseline_in_one_of_40_studies(
    name: str, images: int
) -> None:
    assert false_positives(EXCHANGEABLE[name], images) == pytest.approx(0.025, abs=0.01)


@pytest.mark.parametrize("name", SKEWED)
def test_skewed_differences_are_misjudged_less_with_more_images(name: str) -> None:
    """No interval is exact for all distributions. These bounds are in docs/evaluate.md."""
    few, some, many = (false_positives(SKEWED[name], images) for images in (6, 12, 39))
    assert 0.125 > few > some > many
    assert many < 0.065


@pytest.mark.parametrize(
    ("images", "quantile"), [(2, 12.7062), (3, 4.3027), (6, 2.5706), (12, 2.2010), (39, 2.0244)]
)
def test_few_images_have_students_interval(images: int, quantile: float) -> None:
    """The quantiles are those of tables of Student's t."""
    values = np.random.default_rng(0).normal(5, 2, (3, images))
    half = quantile * values.std(1, ddof=1) / sqrt(images)
    expected = np.stack([values.mean(1) - half, values.mean(1) + half], axis=1)
    assert mean_intervals(values, 0) == pytest.approx(expected, rel=1e-4)


def test_many_images_have_a_bootstrap_interval_of_the_width_of_theory() -> None:
    values = np.random.default_rng(0).normal(5, 2, (1, 400))
    ((low, high),) = mean_intervals(values, 0)
    half = 1.96 * values.std() / 20
    assert abs(low - (values.mean() - half)) < 0.03
    assert abs(high - (values.mean() + half)) < 0.03
    assert np.array_equal(mean_intervals(values, 0), mean_intervals(values, 0))
    assert not np.array_equal(mean_intervals(values, 0), mean_intervals(values, 1))


def test_the_two_kinds_of_interval_agree_where_they_meet() -> None:
    values = np.random.default_rng(3).beta(2, 3, (1, BOOTSTRAP_IMAGES))
    student, bootstrap = mean_intervals(values[:, 1:], 0), mean_intervals(values, 0)
    assert student == pytest.approx(bootstrap, abs=0.02)


def test_no_image_or_one_has_no_interval() -> None:
    assert np.isnan(mean_intervals(np.empty((2, 0)), 0)).all()
    assert np.isnan(mean_intervals(np.ones((1, 1)), 0)).all()
