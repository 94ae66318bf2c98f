"""Boxes and crops in pixels of the original and of the network's input."""

from __future__ import annotations

import numpy as np
import pytest

from camcli.images.geometry import PIXELS, Centres, Crop, Placement

CROP = Crop(10, 20, 110, 70)
INPUT = (200, 50)


def test_sizes_are_width_and_height_and_slices_are_rows_and_columns() -> None:
    assert CROP.size == (100, 50)
    assert np.zeros((80, 120, 3))[CROP.slices].shape == (50, 100, 3)


def test_boxes_are_converted_to_the_input_and_back() -> None:
    box = (10, 20, 60, 45)
    assert CROP.to_input(box, INPUT) == (0, 0, 100, 25)
    assert CROP.to_original((0, 0, 100, 25), INPUT) == box
    outside = (0, 0, 120, 80)
    assert CROP.to_original(CROP.to_input(outside, INPUT), INPUT) == pytest.approx(outside)


def test_corners_are_whole_pixels() -> None:
    assert CROP.corners([0.8, 0.4, 100.9, 25.2], INPUT) == [10, 20, 60, 45]
    assert CROP.corners(None, INPUT) is None
    assert CROP.corners([0, 0, 0, 0], INPUT) is None


def test_a_resized_crop_has_at_least_one_pixel() -> None:
    assert CROP.resized(0.5, 2) == Crop(5, 40, 55, 140)
    assert CROP.resized(0.001, 0.001) == Crop(0, 0, 1, 1)


def test_centres_of_equal_parts() -> None:
    assert CROP.centres((5, 20)) == Centres(12.5, 25, 5, 10)
    assert CROP.placed(None, INPUT) is CROP


def test_centres_are_placed_in_the_crop() -> None:
    """An input pixel is half an original pixel wide here, and one high."""
    placed = CROP.placed(Centres(17.5, 0.5, 16, 32), INPUT)
    assert placed.centres((2, 11)) == Centres(10 + 8.75, 20 + 0.5, 8, 32)
    assert placed.slices == CROP.slices
    half = placed.resized(0.5, 1)
    assert half == Placement(5, 20, 55, 70, cells=Centres(9.375, 20.5, 4, 32))


def test_centres_are_placed_by_the_crop_before_it_is_rounded() -> None:
    crop = Crop(3, 3, 13, 13).resized(0.25, 0.25)
    assert crop == Crop(1, 1, 3, 3)
    assert crop.placed(PIXELS, (10, 10)).centres((10, 10)) == Centres(0.875, 0.875, 0.25, 0.25)
    assert crop.to_input(crop.to_original((1, 2, 3, 4), (10, 10)), (10, 10)) == (1, 2, 3, 4)


def test_weights_are_those_of_linear_interpolation() -> None:
    centres, shape, box = Centres(3.5, -1, 4, 2.5), (3, 5), (2, 1, 19, 9)
    values = np.random.default_rng(0).normal(size=shape)
    rows, columns = centres.weights(shape, box)
    across = [np.interp(np.arange(2, 19) + 0.5, 3.5 + 4 * np.arange(5), row) for row in values]
    down = [
        np.interp(np.arange(1, 9) + 0.5, -1 + 2.5 * np.arange(3), c)
        for c in zip(*across, strict=True)
    ]
    np.testing.assert_allclose(rows @ values @ columns.T, np.transpose(down), atol=1e-12)
