"""Candidates for shortcuts: heat at a fixed place, or outside the objects.

A candidate comes from the maps alone. Running the network on changed images decides (see
`interventions`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from camcli.audit.groups import Groups
from camcli.audit.places import Mask, place_name
from camcli.audit.samples import Numbers, Samples
from camcli.evaluation.intervals import MIN_IMAGES, mean_intervals
from camcli.images.geometry import Floats
from camcli.runs.grids import SIDE

FIXED_PLACE, OUTSIDE = "fixed place", "outside the object"
CONTROLS = 4000
"""The most images whose heat is the control of all classes."""
SIGNIFICANCE = 0.01
"""The probability of any candidate by chance, by Bonferroni's rule."""
LEAST_DIFFERENCE = 0.1
"""The least difference of two shares of images that counts."""
ALMOST_ALL = 0.9
"""The share of other classes that a class has to be ahead of: some may have the same shortcut."""
CLEAR_DIFFERENCE, LEAST_RATIO = 0.5, 3
"""A share of hottest points also has to be so much above its control, or so many times it."""
LARGEST_REGION = 0.4
"""The largest region, as a share of the frame. Its control has to find room elsewhere."""
_EDGE = 0.5
"""The share of the largest excess of heat above which a cell is in the region."""


@dataclass(frozen=True)
class Test:
    """A share of images, its control, and the interval of their difference.

    `says` is the result in words. `passed` means that it speaks for a shortcut.
    """

    name: str
    says: str
    value: float
    control: float
    low: float
    high: float
    images: int
    passed: bool


@dataclass(frozen=True)
class Candidate:
    """Images of a class whose heat raises a suspicion.

    `group` counts from 1; None stands for the whole class. `numbers` are the samples concerned. The
    `region` is None where it differs from image to image.
    """

    label: int
    group: int | None
    numbers: Numbers
    region: Mask | None
    tests: tuple[Test, ...]

    @property
    def place(self) -> str:
        """The place of the region, in words."""
        return OUTSIDE if self.region is None else place_name(self.region)

    @property
    def difference(self) -> float:
        """How far the first test is from its control."""
        return abs(self.tests[0].value - self.tests[0].control)


def find_candidates(
    samples: Samples, groups: Sequence[Groups | None], seed: int = 0
) -> list[Candidate]:
    """Return the candidates of all classes, those furthest from their controls first."""
    found = [*_fixed_places(samples, groups, seed), *_outside(samples, seed)]
    return sorted(found, key=lambda one: -one.difference)


def _fixed_places(
    samples: Samples, groups: Sequence[Groups | None], seed: int
) -> Iterator[Candidate]:
    """Yield the parts of classes whose heat lies where that of other classes does not."""
    comparison = _Comparison(samples, seed)
    parts = [one for label in range(len(groups)) for one in _parts(samples, label, groups[label])]
    kept: dict[int, list[Mask]] = {}
    for label, group, numbers in parts:
        region = comparison.region(label, numbers)
        if region is None or any(_overlap(region, one) > 0.5 for one in kept.get(label, ())):
            continue
        test = comparison.test(label, numbers, SIGNIFICANCE / len(parts))
        if test and test.passed and not _is_on_objects(samples, numbers, region):
            kept.setdefault(label, []).append(region)
            yield Candidate(label, group, numbers, region, (test,))


class _Comparison:
    """Compares the heat of a class with that of a sample of all other classes.

    `half` (n,) splits all samples into two halves at random. A region that is found in one half is
    tested in the other: in the half where it was found, it is hot by construction.
    """

    def __init__(self, samples: Samples, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.samples = samples
        self.half = generator.permutation(len(samples)) % 2
        count = len(samples)
        self.control = np.sort(generator.choice(count, min(count, CONTROLS), replace=False))
        self.heat = samples.heat[self.control].astype(np.float64)

    def region(self, label: int, numbers: Numbers, half: int | None = None) -> Mask | None:
        """Return where samples of a class have more heat than other classes, in one half or both.

        Return None where there is no such place, or too few samples.
        """
        others = self.samples.labels[self.control] != label
        if half is not None:
            numbers = numbers[self.half[numbers] == half]
            others &= self.half[self.control] == half
        if len(numbers) < MIN_IMAGES // 2 or np.count_nonzero(others) < MIN_IMAGES // 2:
            return None
        mean = self.samples.mean_heat(numbers)
        return None if mean is None else region_of(mean - self.heat[others].mean(0))

    def test(self, label: int, numbers: Numbers, level: float) -> Test | None:
        """Test whether a class has its hottest points in a region more often than other classes.

        The control are the other classes at the same place. Heat that follows objects is there as
        often in one class as in the others, if their objects are. Return None if one half has no
        region.
        """
        hits = np.zeros(len(self.samples), bool)
        for half in range(2):
            if (region := self.region(label, numbers, half)) is None:
                return None
            tested = (self.half != half) & self.samples.heated
            hits[tested] = region.ravel()[self.samples.peak[tested]]
        counts = np.bincount(self.samples.labels[hits], minlength=len(self.samples.classes))
        return _peak_test(label, counts, np.bincount(self.samples.labels), level)


def _parts(
    samples: Samples, label: int, groups: Groups | None
) -> Iterator[tuple[int, int | None, Numbers]]:
    """Yield a class and then its groups, each with its samples that have heat."""
    numbers = samples.by_class[label]
    yield label, None, numbers[samples.heated[numbers]]
    if groups and len(groups.members) > 1:
        yield from ((label, group, of) for group, of in enumerate(groups.members, 1))


def region_of(excess: Floats) -> Mask | None:
    """Return the cells (side,side) with the most excess of heat; None without any excess."""
    if excess.max() <= 0:
        return None
    least = max(_EDGE * excess.max(), np.quantile(excess, 1 - LARGEST_REGION))
    return np.asarray(excess >= least)


def _peak_test(label: int, counts: Numbers, sizes: Numbers, level: float) -> Test | None:
    """Return the test of the hottest points in a region, `counts` (c,) of the classes' `sizes`.

    The control is the class that has more of them than ALMOST_ALL of the other classes. Return None
    if no other class has enough images.
    """
    others = np.flatnonzero((sizes >= MIN_IMAGES) & (np.arange(len(sizes)) != label))
    if not others.size or sizes[label] < MIN_IMAGES:
        return None
    order = others[np.argsort(counts[others] / sizes[others], kind="stable")]
    limit = order[math.ceil(ALMOST_ALL * (len(order) - 1))]
    pair = [label, limit]
    low, high = _difference_interval(counts[pair], sizes[pair])
    value, control = (counts[pair] / sizes[pair]).tolist()
    ahead = value - control
    clear = ahead >= CLEAR_DIFFERENCE or value >= LEAST_RATIO * control
    pooled = ([int(of[label]), int(of.sum() - of[label])] for of in (counts, sizes))
    passed = ahead >= LEAST_DIFFERENCE and clear and _fisher(*pooled) < level
    says = (
        f"{value:.0%} of the images have their hottest point here, "
        f"in other classes up to {control:.0%}"
    )
    return Test(FIXED_PLACE, says, value, control, low, high, int(sizes[label]), passed)


def _difference_interval(counts: Numbers, sizes: Numbers) -> tuple[float, float]:
    """Return the interval of the difference of two shares (Agresti and Caffo 2000)."""
    shares = [(count + 1) / (size + 2) for count, size in zip(counts, sizes, strict=True)]
    variances = (p * (1 - p) / (size + 2) for p, size in zip(shares, sizes, strict=True))
    half = 1.96 * math.sqrt(sum(variances))
    return shares[0] - shares[1] - half, shares[0] - shares[1] + half


def _fisher(counts: Sequence[int], sizes: Sequence[int]) -> float:
    """Return the probability of so large a first share by chance: Fisher's exact test."""
    from scipy.stats import hypergeom  # comes with scikit-learn

    return float(hypergeom.sf(counts[0] - 1, sum(sizes), sum(counts), sizes[0]))


def _is_on_objects(samples: Samples, numbers: Numbers, region: Mask) -> bool:
    """Return whether a region lies mostly in the objects of its images."""
    if samples.covered is None:
        return False
    covered = samples.covered[np.sort(numbers)].astype(np.float64)
    return float(covered[:, region].mean()) >= 0.5


def _overlap(one: Mask, other: Mask) -> float:
    """Return the share of the smaller region that lies in the other one."""
    return float((one & other).sum() / min(one.sum(), other.sum()))


def _outside(samples: Samples, seed: int) -> Iterator[Candidate]:
    """Yield the classes whose heat is outside of the objects, and does not follow them.

    The control are the objects of other images of the class: the share of heat in them.
    """
    if samples.covered is None:
        return
    for label, numbers in enumerate(samples.by_class):
        inside = samples.shares["inside"][numbers]
        used = np.sort(numbers[np.isfinite(inside)])
        if len(used) < MIN_IMAGES:
            continue
        test = _inside_test(samples, used, seed)
        if test.passed:
            yield Candidate(label, None, used, None, (test,))


def _inside_test(samples: Samples, numbers: Numbers, seed: int) -> Test:
    assert samples.covered is not None
    inside = samples.shares["inside"][numbers]
    order = np.random.default_rng(seed).permutation(len(numbers))
    partners = np.empty_like(order)
    partners[order] = np.roll(order, 1)  # no image is its own partner
    heat = samples.heat[numbers].reshape(-1, SIDE * SIDE).astype(np.float64)
    others = samples.covered[numbers].reshape(-1, SIDE * SIDE).astype(np.float64)[partners]
    elsewhere = (heat * others).sum(1)
    ((low, high),) = mean_intervals((inside - elsewhere)[None], seed).tolist()
    value, control = float(inside.mean()), float(elsewhere.mean())
    says = f"{value:.0%} of the heat is in the object, and {control:.0%} in that of another image"
    return Test(OUTSIDE, says, value, control, low, high, len(numbers), low <= 0 and value < 0.5)
