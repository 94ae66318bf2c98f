"""Saved maps on a common grid."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from camcli.images.geometry import Centres, Crop, Placement
from camcli.runs.grids import SIDE, area_of, crop_of, heat_of, on_grid


def _smooth(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.asarray(np.sin(x / 40) + np.cos(y / 55))


def _sampled(crop: Placement, shape: tuple[int, int]) -> np.ndarray:
    """Return the map that a layer with these centres has of one function of the image."""
    cells = crop.centres(shape)
    x = cells.x + cells.dx * np.arange(shape[1])
    y = cells.y + cells.dy * np.arange(shape[0])
    return _smooth(x[None], y[:, None])


def test_an_even_map_is_even() -> None:
    np.testing.assert_allclose(on_grid(np.full((7, 7), 3.0), Crop(10, 20, 90, 100)), 3.0)


@pytest.mark.parametrize("shape", [(14, 14), (28, 20), (40, 40)])
def test_layers_of_any_resolution_agree_on_the_grid(shape: tuple[int, int]) -> None:
    """The grid shows the image's function, wherever the cells of a layer are."""
    crop = Crop(30, 10, 254, 234)
    step_x, step_y = 220 / shape[1], 225 / shape[0]
    placed = Placement(30, 10, 254, 234, cells=Centres(33, 12, step_x, step_y))
    found = on_grid(_sampled(placed, shape), placed)
    places = (np.arange(SIDE) + 0.5) / SIDE
    expected = _smooth(30 + 224 * places[None], 10 + 224 * places[:, None])
    inner = np.s_[1:-1, 1:-1]  # beyond the outermost centres a map is constant
    np.testing.assert_allclose(found[inner], expected[inner], atol=0.05)
    assert crop.centres(shape) != placed.centres(shape)


def test_the_cells_of_a_grid_are_means() -> None:
    """A map of pixels becomes OpenCV's means over areas."""
    values = np.random.default_rng(0).random((SIDE * 16, SIDE * 16)).astype(np.float32)
    found = on_grid(values, Crop(0, 0, 64, 64))
    expected = cv2.resize(values, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_another_box_shows_another_part() -> None:
    values = np.arange(10.0)[None].repeat(10, 0)
    left = on_grid(values, Crop(0, 0, 100, 100), (0.0, 0.0, 50.0, 100.0))
    whole = on_grid(values, Crop(0, 0, 100, 100))
    np.testing.assert_allclose(left[:, -1], 4.375, atol=0.01)
    np.testing.assert_allclose(whole[:, -1], 8.875, atol=0.15)


def test_gradients_of_pixels_count_by_their_size() -> None:
    gradients = np.stack([np.ones((40, 40)), -2 * np.ones((40, 40)), np.zeros((40, 40))])
    np.testing.assert_allclose(on_grid(gradients, Crop(0, 0, 9, 9)), 3.0)


def test_heat_is_the_positive_part() -> None:
    grid = np.array([[1.0, -5.0], [3.0, 0.0]])
    np.testing.assert_allclose(heat_of(grid), [[0.25, 0], [0.75, 0]])
    assert heat_of(-grid.clip(min=0)) is None
    assert heat_of(np.full((2, 2), np.nan)) is None


def test_objects_cover_cells_in_part() -> None:
    crop = Crop(100, 50, 300, 250)
    covered = area_of([(100, 50, 110, 250), (105, 50, 115, 150)], crop)
    np.testing.assert_allclose(covered[0, :3], [1, 0.5, 0])
    np.testing.assert_allclose(covered[-1, :3], [1, 0, 0])
    assert area_of([(0, 0, 90, 40)], crop).sum() == 0, "outside of what the network saw"


@pytest.mark.parametrize("damage", [{"crop": None}, {"crop": [5, 0, 5, 9]}, {}])
def test_a_row_without_a_part_has_no_crop(damage: dict[str, object]) -> None:
    assert crop_of(damage) is None


def test_a_row_has_the_places_of_its_cells() -> None:
    found = crop_of({"crop": [0, 0, 9, 9], "cells": [1, 2, 3, 4]})
    assert found
    assert found.centres((3, 3)) == Centres(1, 2, 3, 4)
    assert type(crop_of({"crop": [0, 0, 9, 9], "cells": [1, 2, 0, 4]})) is Crop
