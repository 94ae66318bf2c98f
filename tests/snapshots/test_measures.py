"""Measures of the distance between two maps, and their tolerances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from camcli.errors import CamcliError
from camcli.snapshots.measures import Tolerance, measure
from tests.support.snapshots import PEAK, verdicts, write_output


def test_measures_against_numpy() -> None:
    new = np.roll(PEAK, (1, 2), (0, 1)) * 2
    found = measure(new, PEAK)
    assert found.difference == pytest.approx(np.abs(new - PEAK).max())
    assert found.relative == pytest.approx(found.difference / PEAK.max())
    assert found.correlation == pytest.approx(np.corrcoef(new.ravel(), PEAK.ravel())[0, 1])
    assert found.shift == pytest.approx(np.hypot(1, 2) / 9)


def test_correlation_of_tiny_values_does_not_underflow() -> None:
    new = np.roll(PEAK, 1)
    tiny = measure(new * 1e-200, PEAK * 1e-200)
    assert tiny.correlation == pytest.approx(measure(new, PEAK).correlation)


def test_shift_of_an_image_of_gradients() -> None:
    """The hottest point is that of the largest absolute value over all channels."""
    new, baseline = (np.stack([PEAK * 0, -m, PEAK / 2]) for m in (np.roll(PEAK, 3, axis=1), PEAK))
    assert measure(new, baseline).shift == pytest.approx(3 / 9)


def test_only_peaks_of_nearly_equal_height_have_no_shift() -> None:
    two, swapped = np.zeros((10, 10)), np.zeros((10, 10))
    two[1, 1], two[8, 8] = 1, 0.999
    swapped[1, 1], swapped[8, 8] = 0.999, 1
    assert measure(swapped, two).shift == 0
    two[8, 8] = 0.9
    assert measure(swapped, two).shift == pytest.approx(np.hypot(7, 7) / 10)


def test_relative_difference_from_zero_is_undefined() -> None:
    assert measure(PEAK, PEAK * 0).relative is None


def test_each_tolerance_has_an_effect(tmp_path: Path) -> None:
    new = write_output(tmp_path / "new", {"a.jpg": np.roll(PEAK, 2, axis=0)})
    old = write_output(tmp_path / "old", {"a.jpg": PEAK})
    loose = {"rtol": 1, "min_correlation": -1, "max_shift": 1}
    assert verdicts(new, old, **loose) == {"a.jpg": ("alike",)}
    assert verdicts(new, old, **loose | {"rtol": 0, "atol": 1}) == {"a.jpg": ("alike",)}
    assert verdicts(new, old, **loose | {"max_shift": 0.23}) == {"a.jpg": ("alike",)}
    for strict, reason in (
        ({"rtol": 0.1}, "values"),
        ({"min_correlation": 0.9}, "correlation"),
        ({"max_shift": 0.2}, "hottest point"),
    ):
        assert verdicts(new, old, **loose | strict) == {"a.jpg": ("changed", reason)}


@pytest.mark.parametrize(
    ("name", "value"),
    [("rtol", -1), ("atol", float("nan")), ("min_correlation", 2), ("max_shift", -1)],
)
def test_impossible_tolerances_are_refused(name: str, value: float) -> None:
    with pytest.raises(CamcliError, match=name):
        Tolerance(**{name: value})
