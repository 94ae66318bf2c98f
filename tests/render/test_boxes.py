"""Boxes around the regions of a map above a threshold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from camcli.errors import CamcliError, MethodError
from camcli.methods import METHODS
from camcli.render.boxes import BoxRule, check_boxes, find_boxes, largest_box
from camcli.render.draw import draw_box

SHAPE = (12, 16)


def flood_fill(above: set[tuple[int, int]]) -> list[set[tuple[int, int]]]:
    """Return the connected regions of pixels (y, x), diagonal neighbours included."""
    regions = []
    left = set(above)
    while left:
        region, queue = set(), [min(left)]
        while queue:
            y, x = queue.pop()
            if (y, x) in left:
                left.remove((y, x))
                region.add((y, x))
                queue += [(y + j, x + i) for j in (-1, 0, 1) for i in (-1, 0, 1)]
        regions.append(region)
    return regions


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float32, SHAPE, elements=st.sampled_from([0, 0.25, 0.5, 0.75, 1])),
    st.sampled_from([0, 0.15, 0.5, 0.8]),
)
def test_boxes_are_around_the_regions_of_a_flood_fill(values: np.ndarray, threshold: float) -> None:
    expected = []
    for region in flood_fill({*zip(*np.nonzero(values > threshold * values.max()), strict=True)}):
        rows, columns = zip(*region, strict=True)
        box = (min(columns), min(rows), max(columns) + 1, max(rows) + 1)
        expected.append((-len(region), box[1], box[0], box))
    found = find_boxes(values, threshold)
    assert found == [box for *_, box in sorted(expected)]
    assert largest_box(values, threshold) == (found[0] if found else None)


def test_a_map_of_zeros_has_no_box() -> None:
    values = np.zeros(SHAPE, np.float32)
    assert find_boxes(values) == []
    assert largest_box(values) is None
    assert BoxRule("all").find(values, "gradcam") == []


def test_a_box_rule_chooses_boxes_and_threshold() -> None:
    values = np.zeros((10, 30), np.float32)
    values[2:4, 2:4], values[5:9, 10:15], values[0, 29] = 5, 0.9, 0.6
    values[9, 0] = 0.1
    small, large, corner = (2, 2, 4, 4), (10, 5, 15, 9), (29, 0, 30, 1)
    assert BoxRule().find(values, "gradcam") == [large]
    assert BoxRule().find(values, "cam") == [small], "0.9 is below the threshold of 0.2 x 5"
    assert BoxRule("all").find(values, "gradcam") == [large, small]
    assert BoxRule("all", 0.1).find(values, "cam") == [large, small, corner]
    assert BoxRule("all", 0).find(values, "cam") == [large, small, corner, (0, 9, 1, 10)]
    assert BoxRule("largest", 0.1).find(values, "cam") == [large]


def test_a_box_rule_refuses_unknown_choices_and_thresholds() -> None:
    with pytest.raises(CamcliError, match=r"unknown choice of boxes 'al': did you mean 'all'"):
        BoxRule("al")
    for threshold in (-0.1, 1, float("nan")):
        with pytest.raises(CamcliError, match=rf"box threshold {threshold}: expected a fraction"):
            BoxRule(threshold=threshold)


def test_methods_that_give_images_have_no_boxes() -> None:
    check_boxes([METHODS["gradcam"], METHODS["occlusion"]])
    with pytest.raises(MethodError, match="'guided' gives images, and only maps have boxes"):
        check_boxes([METHODS["gradcam"], METHODS["guided"]])


def test_a_drawn_box_is_white_with_a_black_edge() -> None:
    pixels = np.full((40, 60, 3), 90, np.uint8)
    draw_box(pixels, (10, 5, 50, 35))
    for edge in (pixels[5, 10:50], pixels[34, 10:50], pixels[5:35, 10], pixels[5:35, 49]):
        assert (edge == 255).all()
    assert (pixels[4, 10:50] == 0).all()
    assert (pixels[20, 11] == 0).all()
    assert (pixels[20, 30] == 90).all(), "the inside is unchanged"
    assert (pixels[0] == 90).all(), "the outside is unchanged"
