"""Localisation metrics against slow ones that count pixels as their papers say."""

from __future__ import annotations

from collections.abc import Callable
from math import hypot
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from camcli.errors import CamcliError
from camcli.evaluation.localisation import covered, energy, iou, loc, localised, pointing
from camcli.evaluation.objects import Object
from camcli.render.boxes import BoxRule, find_boxes, largest_box
from tests.support.files import SAMPLES, manifest

SIZE = (12, 16)
Pixel = tuple[int, int]


def maps() -> st.SearchStrategy[np.ndarray]:
    """Maps with few values, so that ties and larger regions are common."""
    return arrays(np.float32, SIZE, elements=st.sampled_from([0, 0.25, 0.5, 0.75, 1]))


@st.composite
def objects(draw: st.DrawFn) -> list[Object]:
    """One to three objects with corners at quarters of a pixel, some with a mask."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        x0, x1 = sorted(draw(st.lists(st.integers(0, 64), min_size=2, max_size=2, unique=True)))
        y0, y1 = sorted(draw(st.lists(st.integers(0, 48), min_size=2, max_size=2, unique=True)))
        mask = np.zeros(SIZE, bool)
        mask[y0 // 4 : y1 // 4, x0 // 4 : x1 // 4 : 2] = True
        box = (x0 / 4, y0 / 4, x1 / 4, y1 / 4)
        found.append(Object("dog", box, mask if draw(st.booleans()) else None))
    return found


def pixels() -> list[Pixel]:
    return [(y, x) for y in range(SIZE[0]) for x in range(SIZE[1])]


def in_box(found: Object, pixel: Pixel) -> bool:
    x0, y0, x1, y1 = found.box
    return y0 <= pixel[0] + 0.5 < y1 and x0 <= pixel[1] + 0.5 < x1


def on(found: Object, pixel: Pixel) -> bool:
    return in_box(found, pixel) if found.mask is None else bool(found.mask[pixel])


@settings(max_examples=40, deadline=None)
@given(maps(), objects(), st.sampled_from([0, 1, 2.5, 15]))
def test_pointing(values: np.ndarray, found: list[Object], margin: float) -> None:
    objects = [p for p in pixels() if any(on(one, p) for one in found)]
    top = [p for p in pixels() if values[p] == values.max()]
    hits = [any(hypot(y - v, x - u) <= margin for v, u in objects) for y, x in top]
    expected = sum(hits) / len(hits) if values.max() > 0 else 0
    assert pointing(values, found, margin) == pytest.approx(expected)


def test_pointing_has_a_margin_of_15_pixels_and_an_empty_map_misses() -> None:
    values = np.zeros((40, 60), np.float32)
    values[20, 30] = 1
    for x0, hit in ((30, 1), (45, 1), (46, 0)):
        assert pointing(values, [Object("dog", (x0, 0, 60, 40))]) == hit
    assert pointing(np.zeros_like(values), [Object("dog", (0, 0, 60, 40))]) == 0
    left = [Object("dog", (0, 0, 15, 40))]
    for constant in (0.5, 1):  # the same as drawing a pixel at random
        assert pointing(np.full_like(values, constant), left) == pytest.approx(30 / 60)
    assert pointing(values, []) == 0
    values[20, 29] = 1 - 2e-7  # equal before resizing
    assert pointing(values, [Object("dog", (30, 20, 31, 21))], margin=0.5) == 0.5


@settings(max_examples=40, deadline=None)
@given(maps(), objects(), st.sampled_from([0, 0.25, 0.5, 0.9]))
def test_loc(values: np.ndarray, found: list[Object], delta: float) -> None:
    boxed = [p for p in pixels() if any(in_box(one, p) for one in found)]
    above = [p for p in pixels() if values[p] > delta * float(values.max())]
    internal = sum(p in above for p in boxed)
    external = sum(p not in boxed for p in above)
    expected = internal / (len(boxed) + external or 1)
    assert loc(values, found, delta) == pytest.approx(expected)
    assert loc(values / 4, found, delta) == pytest.approx(expected), "a share of the maximum"


@settings(max_examples=40, deadline=None)
@given(maps(), objects(), st.sampled_from([0.15, 0.6]), st.sampled_from([0.5, 1]))
def test_covered(values: np.ndarray, found: list[Object], share: float, part: float) -> None:
    expected = 0
    for one in found:
        own = [p for p in pixels() if on(one, p)]
        above = [p for p in own if values[p] > share * float(values.max())]
        expected += bool(own) and len(above) >= part * len(own)
    assert covered(values, found, share, part) == expected


def test_an_empty_map_scores_0() -> None:
    values, found = np.zeros((20, 30), np.float32), [Object("dog", (5, 5, 15, 15))]
    assert find_boxes(values) == []
    assert largest_box(values) is None
    measures = (pointing, energy, loc, localised, covered)
    assert [float(measure(values, found)) for measure in measures] == [0] * 5


@settings(max_examples=60, deadline=None)
@given(objects())
def test_iou(found: list[Object]) -> None:
    """Counted on a grid of quarters of a pixel, which has all corners."""
    cells = []
    for one in (found[0], found[-1]):
        x0, y0, x1, y1 = (int(4 * side) for side in one.box)
        cells.append({(y, x) for y in range(y0, y1) for x in range(x0, x1)})
    first, last = cells
    expected = len(first & last) / len(first | last)
    assert iou(found[0].box, found[-1].box) == pytest.approx(expected)
    assert iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0


def test_localised_needs_more_than_half_of_one_object() -> None:
    values = np.zeros((20, 30), np.float32)
    values[5:15, 10:20] = 1
    half, more = Object("dog", (10, 5, 20, 10)), Object("dog", (10, 5, 20, 10.5))
    assert not localised(values, [half, half])
    assert localised(values, [half, more])
    assert not localised(values, [more], overlap=0.6)
    assert not localised(values, [])
    values[5:15, 20:30] = 0.2
    assert not localised(values, [more]), "the box surrounds the larger region"
    assert localised(values, [more], box_threshold=0.2)


def test_box_rule_selects_boxes() -> None:
    values = np.zeros((10, 30), np.float32)
    values[2:4, 2:4], values[5:9, 10:15], values[0, 29] = 5, 0.9, 0.6
    values[9, 0] = 0.1
    small, large, corner = (2, 2, 4, 4), (10, 5, 15, 9), (29, 0, 30, 1)
    assert BoxRule().find(values, "gradcam") == [large]
    assert BoxRule().find(values, "cam") == [small], "0.9 is less than a fifth of 5"
    assert BoxRule("all").find(values, "gradcam") == [large, small]
    assert BoxRule("all", 0.1).find(values, "cam") == [large, small, corner]
    assert BoxRule("all", 0).find(values, "cam") == [large, small, corner, (0, 9, 1, 10)]
    assert BoxRule("largest", 0.1).find(values, "cam") == [large]
    with pytest.raises(CamcliError, match=r"unknown choice of boxes 'al': did you mean 'all'"):
        BoxRule("al")
    for threshold in (-0.1, 1, float("nan")):
        with pytest.raises(CamcliError, match=rf"box threshold {threshold}: expected a fraction"):
            BoxRule(threshold=threshold)


def test_cams_box_of_the_dog_is_its_head(run: Callable[..., Result], tmp_path: Path) -> None:
    """In dog.jpg, the head is in the upper right corner."""
    found = run(
        *("explain", SAMPLES / "dog.jpg", "--fit", "full", "--method", "cam"),
        *("--save", "boxes,map", "--output", tmp_path, "--quiet"),
    )
    assert found.exit_code == 0
    (row,) = manifest(tmp_path)
    (box,) = row["boxes"]
    assert iou(box, (735, 20, 925, 240)) > 0.6
    with Image.open(tmp_path / "dog.cam.boxes.png") as drawn:
        assert drawn.size == (1024, 768)
        picture = np.asarray(drawn)
    x0, y0, x1, y1 = box
    assert (picture[y0 + 1 : y1 - 1, [x0, x1 - 1]] == 255).all(), "the left and right edges"
    assert (picture[[y0, y1 - 1], x0 + 1 : x1 - 1] == 255).all(), "the upper and lower edges"
