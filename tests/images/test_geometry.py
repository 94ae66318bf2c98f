"""Boxes and crops in pixels of the original and of the network's input."""

from __future__ import annotations

import numpy as np
import pytest

from camcli.images.geometry import Crop

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
