"""Measure how far a map is from its baseline, and which tolerances it exceeds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from camcli.errors import CamcliError

RawMap: TypeAlias = NDArray[np.float64]
"""A map (h,w) or an image of gradients (3,H,W), as the method computed it."""

_PEAK = 0.02
"""Cells within this share of the largest absolute value below the maximum all count as hottest."""

_FLAT = 1e-5
"""A map whose range is below this share of its largest absolute value has no pattern."""


EXCEEDED = ("values", "correlation", "hottest point")
"""The measures of two maps that have a tolerance, by the words for one that is exceeded."""


@dataclass(frozen=True)
class Tolerance:
    """The largest distance of a map from its baseline that still counts as alike.

    Values may differ by `atol + rtol x (the baseline's largest absolute value)`. The scale is not
    taken per cell, since a cell near zero carries the rounding errors of its large neighbours.
    `max_shift` is a share of the map's longer side. The defaults accept other processors, thread
    counts and batch sizes, which change values by about a millionth, or a few thousandths with
    TF32, and little else.
    """

    atol: float = 1e-7
    rtol: float = 0.01
    min_correlation: float = 0.99
    max_shift: float = 0.1

    def __post_init__(self) -> None:
        for name in ("atol", "rtol", "max_shift"):
            if not getattr(self, name) >= 0:
                raise CamcliError(f"{name} {getattr(self, name)}: expected a number from 0 up")
        if not -1 <= self.min_correlation <= 1:
            raise CamcliError(f"min_correlation {self.min_correlation}: expected -1 to 1")


@dataclass(frozen=True)
class Measures:
    """The distance of a map from its baseline.

    `difference` is the largest absolute difference. `relative` is `difference` divided by the
    baseline's largest absolute value; None if that is zero and the map is not. `correlation` is
    Pearson's: None between flat maps, 0 if one is flat. `shift` is the distance between the hottest
    points as a share of the map's longer side; None if either map is flat.
    """

    difference: float
    relative: float | None
    correlation: float | None
    shift: float | None


def measure(
    new: RawMap, baseline: RawMap, atol: float = 0, cell: tuple[float, float] = (1, 1)
) -> Measures:
    """Measure two finite maps of the same shape. A range within `atol` counts as flat.

    `cell` is the height and width of a cell, in any unit.
    """
    difference = float(np.abs(new - baseline).max(initial=0))
    scale = float(np.abs(baseline).max(initial=0))
    if not difference:
        flat = _is_flat(new, atol)
        return Measures(0.0, 0.0, None if flat else 1.0, None if flat else 0.0)
    flats = [_is_flat(values, atol) for values in (new, baseline)]
    return Measures(
        difference,
        difference / scale if scale else None,
        None if all(flats) else 0.0 if any(flats) else _correlation(new, baseline),
        None if any(flats) else _shift(new, baseline, cell),
    )


def exceeded(found: Measures, scale: float, tolerance: Tolerance) -> Iterator[str]:
    """Yield the measures beyond tolerance; `scale` is the baseline's largest absolute value."""
    values, correlation, hottest_point = EXCEEDED
    if not found.difference <= tolerance.atol + tolerance.rtol * scale:
        yield values
    if found.correlation is not None and found.correlation < tolerance.min_correlation:
        yield correlation
    if found.shift is not None and found.shift > tolerance.max_shift:
        yield hottest_point


def _is_flat(values: RawMap, atol: float) -> bool:
    span = float(values.max(initial=-np.inf) - values.min(initial=np.inf))
    return not span > atol + _FLAT * float(np.abs(values).max(initial=0))


def _correlation(new: RawMap, baseline: RawMap) -> float:
    # Scaled to 1 first: the squares of tiny gradients would underflow.
    unit = [(values / np.abs(values).max()).ravel() for values in (new, baseline)]
    centred = [values - values.mean() for values in unit]
    norms = math.prod(math.sqrt(np.dot(values, values)) for values in centred)
    return float(np.dot(*centred)) / norms


def _shift(new: RawMap, baseline: RawMap, cell: tuple[float, float]) -> float:
    """Return the distance from the new hottest point to the nearest one of the baseline.

    The baseline has several hottest points if several are close to the maximum. Two equal peaks
    whose order rounding may swap therefore have no shift.
    """
    here, there = (np.abs(m).max(axis=0) if m.ndim == 3 else m for m in (new, baseline))
    place = np.unravel_index(int(here.argmax()), here.shape)
    least = there.max() - _PEAK * np.abs(there).max()
    if there[place] >= least:  # in most maps: be quick
        return 0.0
    apart = (np.argwhere(there >= least) - np.array(place)) * cell
    return float(np.linalg.norm(apart, axis=1).min() / np.multiply(here.shape, cell).max())
