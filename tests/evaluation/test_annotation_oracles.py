"""The metrics on annotations against loops over pixels in float64, written from their papers.

The maps are drawn: smooth and coarse ones, with ties, flat, with a single point, and empty. The
objects overlap, leave the picture and contain each other; some have masks, some cover no pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise, product

import numpy as np
import pytest
from numpy.typing import NDArray

from camcli.evaluation.objects import Object
from camcli.evaluation.registry import METRIC_EVIDENCE, METRICS
from camcli.render.boxes import find_boxes

CASES = 150
Pixel = tuple[int, int]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Case:
    """A map, the objects of its class, and the share of its maximum at which boxes are cut."""

    photo_map: NDArray[np.float32]
    objects: Sequence[Object]
    box_threshold: float

    def pixels(self) -> Iterator[tuple[Pixel, float]]:
        for pixel in np.ndindex(*self.photo_map.shape):
            yield pixel, float(self.photo_map[pixel])

    @cached_property
    def top(self) -> float:
        return max(value for _, value in self.pixels())


def draw_map(random: np.random.Generator, kind: int, shape: Pixel) -> NDArray[np.float32]:
    coarse = random.random((3, 4)).repeat(-(-shape[0] // 3), 0).repeat(-(-shape[1] // 4), 1)
    point = np.zeros(shape)
    point[random.integers(shape[0]), random.integers(shape[1])] = 1
    drawn = (
        random.random(shape),
        coarse[: shape[0], : shape[1]] * (random.random(shape) < 0.8),
        random.integers(0, 4, shape) / 3,
        np.ones(shape),
        point,
        np.zeros(shape),
    )
    return drawn[kind % len(drawn)].astype(np.float32)


def draw_object(random: np.random.Generator, shape: Pixel) -> Object:
    height, width = shape
    x0, y0 = random.uniform(-3, width - 1), random.uniform(-3, height - 1)
    # From less than a pixel to more than the picture, on halves of a pixel or between them.
    sides = random.choice([0.3, 4, 12, 40]) * random.uniform(0.5, 1.5, 2)
    box = (x0, y0, x0 + sides[0], y0 + sides[1])
    if random.random() < 0.5:
        box = tuple((2 * np.clip(box, 0, [width, height] * 2)).round() / 2)
    mask = random.random(shape) < 0.1 if random.random() < 0.4 else None
    return Object("dog", tuple(map(float, box)), mask)  # type: ignore


@cache
def cases() -> list[Case]:
    random, found = np.random.default_rng(7), []
    for i in range(CASES):
        shape = int(random.integers(5, 40)), int(random.integers(5, 40))
        objects = [draw_object(random, shape) for _ in range(random.integers(1, 5))]
        threshold = float(random.choice([0.15, 0.2, 0.5, 0.8]))
        found.append(Case(draw_map(random, i, shape), objects, threshold))
    return found


def in_box(pixel: Pixel, box: Box) -> bool:
    x, y = pixel[1] + 0.5, pixel[0] + 0.5
    return box[0] <= x < box[2] and box[1] <= y < box[3]


def in_boxes(pixel: Pixel, case: Case) -> bool:
    return any(in_box(pixel, one.box) for one in case.objects)


def belongs(pixel: Pixel, one: Object) -> bool:
    return in_box(pixel, one.box) if one.mask is None else bool(one.mask[pixel])


def pointing(case: Case) -> float:
    """Zhang et al. 2018, sec. 4.1: Hits / (Hits + Misses), a hit being within 15 pixels."""
    if case.top <= 0:
        return 0
    body = [p for p, _ in case.pixels() if any(belongs(p, one) for one in case.objects)]
    hits = misses = 0
    for (y, x), value in case.pixels():
        if value == case.top:
            near = any((y - v) ** 2 + (x - u) ** 2 <= 15**2 for v, u in body)
            hits, misses = hits + near, misses + (not near)
    return hits / (hits + misses)


def energy(case: Case) -> float:
    """Wang et al. 2020, sec. 4.3: the sum of L inside of the box, divided by that everywhere."""
    inside = sum(value for p, value in case.pixels() if in_boxes(p, case))
    return inside / (sum(value for _, value in case.pixels()) or 1)


def loc(case: Case, delta: float) -> float:
    """Chattopadhay et al. 2018: internal pixels / (the box's area + external pixels)."""
    internal = external = area = 0
    for p, value in case.pixels():
        boxed, above = in_boxes(p, case), value > delta * case.top
        area += boxed
        internal += boxed and above
        external += above and not boxed
    return internal / (area + external or 1)


def regions(case: Case) -> list[list[Pixel]]:
    """Return the regions above the threshold, by merging pixels with their neighbours."""
    label = {p: p for p, v in case.pixels() if v > np.float32(case.box_threshold * case.top)}
    changed = True
    while changed:
        changed = False
        for y, x in label:
            for j, i in np.ndindex(3, 3):
                other = (y + j - 1, x + i - 1)
                if other in label and label[other] < label[y, x]:
                    label[y, x], changed = label[other], True
    return [[p for p in label if label[p] == first] for first in dict.fromkeys(label.values())]


def boxes(case: Case) -> list[tuple[int, int, int, int]]:
    """Return a box for each region: the largest region first, then from the top left."""
    found = []
    for region in regions(case):
        rows, columns = [y for y, _ in region], [x for _, x in region]
        box = (min(columns), min(rows), max(columns) + 1, max(rows) + 1)
        found.append((-len(region), box[1], box[0], box))
    return [box for *_, box in sorted(found)]


def overlap(one: Box, other: Box) -> float:
    """Return the intersection over the union, by areas between all edges."""
    xs, ys = sorted({one[0], one[2], other[0], other[2]}), sorted({*one[1::2], *other[1::2]})
    shared = joined = 0.0
    for (x0, x1), (y0, y1) in product(pairwise(xs), pairwise(ys)):
        boxes = (one, other)
        inside = [b[0] <= x0 and x1 <= b[2] and b[1] <= y0 and y1 <= b[3] for b in boxes]
        shared += (x1 - x0) * (y1 - y0) * all(inside)
        joined += (x1 - x0) * (y1 - y0) * any(inside)
    return shared / joined


def iou(case: Case) -> float:
    """Selvaraju et al. 2017, sec. 4.1: the box around the largest segment, and the best object."""
    found = boxes(case)
    return max(overlap(found[0], one.box) for one in case.objects) if found else 0


def covered(case: Case) -> float:
    """Return the share of objects of which at least half is above the threshold."""
    found = 0
    for one in case.objects:
        own = [v for p, v in case.pixels() if belongs(p, one)]
        above = [v for v in own if v > np.float32(case.box_threshold * case.top)]
        found += bool(own) and 2 * len(above) >= len(own)
    return found / len(case.objects)


ORACLES: dict[str, Callable[[Case], float]] = {
    "pointing": pointing,
    "energy": energy,
    "loc-0": lambda case: loc(case, 0),
    "loc-0.25": lambda case: loc(case, 0.25),
    "loc-0.5": lambda case: loc(case, 0.5),
    "iou": iou,
    "localised": lambda case: iou(case) > 0.5,
    "covered": covered,
}


def test_every_metric_of_annotations_has_an_oracle() -> None:
    annotated = [name for name, metric in METRICS.items() if metric.place == "annotation"]
    assert [*ORACLES] == annotated
    fields = {name for name, kind in METRIC_EVIDENCE.items() if kind.place == "annotation"}
    assert fields == {*Case.__dataclass_fields__}


@pytest.mark.parametrize("name", ORACLES)
def test_a_metric_of_annotations_equals_its_oracle(name: str) -> None:
    values = []
    for i, case in enumerate(cases()):
        evidence = {need: getattr(case, need) for need in METRICS[name].needs}
        values.append(float(METRICS[name].function(**evidence)))
        assert values[-1] == pytest.approx(float(ORACLES[name](case)), abs=1e-6), i
    assert min(values) == 0
    assert max(values) > 0


def test_boxes_are_those_of_the_regions() -> None:
    several = 0
    for i, case in enumerate(cases()):
        found = find_boxes(case.photo_map, case.box_threshold)
        assert found == boxes(case), i
        several += len(found) > 1
    assert several > 20
