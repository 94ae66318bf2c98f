"""Panels, labelled grids, strips and comparisons, read from their pixels."""

from __future__ import annotations

import numpy as np
import pytest

from camcli.images.geometry import Crop
from camcli.render.draw import heatmap, overlay
from camcli.render.panels import comparison, labelled_grid, panel, strip
from camcli.render.style import Style
from tests.support.pictures import CROP, SHAPE, constant_photo, hot_corner


def test_a_panel_holds_photo_heatmap_and_overlay() -> None:
    pixels, values = constant_photo(), hot_corner()
    found = panel(pixels, values, CROP, Style(), signed=False)
    assert (found[:, :120] == pixels).all()
    assert (found[:, -120:] == overlay(pixels, values, CROP, Style(), signed=False)).all()
    heat = heatmap(values, CROP, SHAPE, Style(), signed=False)
    assert (found[:, 122:242] == heat).all()


@pytest.mark.parametrize("signed", [False, True])
def test_a_panel_has_a_colour_bar_with_numbers(signed: bool) -> None:
    found = panel(constant_photo(), hot_corner(), CROP, Style(), signed)
    table = Style().table(signed)
    ramp, numbers = found[:, 244], found[:, 252:-122]
    assert (ramp[0] == table[255]).all()
    assert (ramp[-1] == table[0]).all()
    assert np.abs(ramp[30].astype(int) - table[126]).max() < 12, "linear"
    dark = (numbers < 100).any((1, 2))
    assert dark[:10].any(), "the maximum"
    assert dark[-10:].any(), "the minimum"
    assert dark[25:35].any() == signed, "zero"


@pytest.mark.parametrize("height", [1, 5, 700])
def test_panels_of_any_height(height: int) -> None:
    photo = np.full((height, 9, 3), 80, np.uint8)
    for values in (np.zeros((2, 2), np.float32), np.ones((3, 4, 4), np.float32)):
        found = panel(photo, values, Crop(0, 0, 9, height), Style(), signed=True)
        assert len(found) == height
        assert (found[:, :9] == photo).all()


def test_a_strip_has_one_height() -> None:
    pictures = [np.full((50, 30, 3), 10, np.uint8), np.full((100, 40, 3), 20, np.uint8)]
    found = strip(pictures, height=50)
    assert found.shape == (50, 30 + 6 + 20, 3)
    assert (found[:, :30] == 10).all()
    assert (found[:, 30:36] == 255).all()
    assert (found[:, 36:] == 20).all()


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (5, 1, 5), (7, 2, 5)])
def test_a_labelled_grid_has_up_to_five_columns(count: int, rows: int, columns: int) -> None:
    found = labelled_grid([("a word", np.full((60, 130, 3), 90, np.uint8))] * count)
    assert found.shape == (rows * (60 + 32), columns * (130 + 8), 3)
    pictures = (found == 90).all(2).sum()
    assert abs(pictures - count * 60 * 130) < 0.01 * count * 60 * 130
    assert (found[:28, :138] < 100).any(), "the title is above the first picture"


def test_a_comparison_shows_both_maps_and_their_difference() -> None:
    old, new = np.zeros((2, 4), np.float32), np.zeros((2, 4), np.float32)
    old[0, 0], new[0, 0], new[1, 3] = 2, 1, 1
    found = comparison(old, new)
    width = found.shape[1] // 3
    first, second, change = (found[44:, start : start + 288] for start in (0, width, 2 * width))
    table, diverging = Style().table(signed=False), Style().table(signed=True)
    assert (first[10, 10] == table[255]).all()
    assert (second[10, 10] == table[128]).all(), "the maps share a scale"
    assert (change[10, 10] == diverging[0]).all(), "lower: blue"
    assert (change[-10, -10] == diverging[255]).all(), "higher: red"
    assert (change[10, 100] == diverging[128]).all(), "equal: white"


def test_maps_of_different_shapes_have_no_difference() -> None:
    found = comparison(np.ones((2, 4), np.float32), np.ones((3, 3), np.float32))
    start = 2 * found.shape[1] // 3
    change = found[44 : 44 + 144, start : start + 288]
    assert (change == Style().table(signed=True)[128]).all()
