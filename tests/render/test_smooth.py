"""Maps enlarged for the eye: no overshoot, no stars, values at the centres of cells."""

from __future__ import annotations

import numpy as np
import pytest

from camcli.images.geometry import Centres, Crop, MapArray, Placement
from camcli.render.draw import resized
from camcli.render.smooth import SIDE, smooth_levels


def test_cells_have_their_values_at_their_centres() -> None:
    levels = np.random.default_rng(0).random((5, 7)).astype(np.float32)
    found = smooth_levels(levels, Crop(0, 0, 77, 55))
    np.testing.assert_allclose(found[5::11, 5::11] / 255, levels, atol=1 / 255)
    placed = Placement(10, 20, 90, 80, cells=Centres(14.5, 23.5, 8, 11))
    found = smooth_levels(levels, placed)
    np.testing.assert_allclose(found[3:48:11, 4:60:8] / 255, levels, atol=1 / 255)


def test_nothing_overshoots() -> None:
    """Every value lies between those of the cells around it."""
    levels = np.random.default_rng(1).random((6, 6)).round().astype(np.float32)
    found = smooth_levels(levels, Crop(0, 0, 60, 60))
    for row, column in np.ndindex(5, 5):
        cells = 255 * levels[row : row + 2, column : column + 2]
        between = found[10 * row + 5 : 10 * row + 15, 10 * column + 5 : 10 * column + 15]
        assert cells.min() <= between.min()
        assert between.max() <= cells.max()


def radii(drawn: MapArray, share: float) -> tuple[float, float]:
    """Return how far a level reaches from the centre, along an axis and along the diagonal."""
    centre = len(drawn) // 2
    across = drawn[centre, centre:]
    diagonal = np.diagonal(drawn)[centre:]
    first, second = ((line > share * drawn.max()).sum() for line in (across, diagonal))
    return float(first), float(second * 2**0.5)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_hot_cell_is_round(share: float) -> None:
    levels = np.zeros((5, 5), np.float32)
    levels[2, 2] = 1
    crop = Crop(0, 0, 505, 505)
    axis, diagonal = radii(smooth_levels(levels, crop).astype(np.float32), share)
    assert diagonal == pytest.approx(axis, rel=0.1)


def test_a_hot_cell_was_a_star() -> None:
    """What the cubic is for: bilinear interpolation is narrow on the diagonals."""
    levels = np.zeros((5, 5), np.float32)
    levels[2, 2] = 1
    axis, diagonal = radii(resized(levels, Crop(0, 0, 505, 505)), 0.5)
    assert diagonal < 0.85 * axis


def test_a_ramp_stays_a_ramp() -> None:
    levels = np.linspace(0, 1, 9, dtype=np.float32)[None].repeat(2, 0)
    found = smooth_levels(levels, Crop(0, 0, 90, 20))[5]
    steps = np.diff(found[15:75].astype(int))
    assert set(steps) <= {2, 3, 4}


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 1), (2, 2), (40, 40)])
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (2000, 10)])
def test_maps_and_crops_of_any_shape(shape: tuple[int, int], size: tuple[int, int]) -> None:
    found = smooth_levels(np.full(shape, 0.6, np.float32), Crop(0, 0, *size))
    assert found.shape == (min(SIDE, size[1]), min(SIDE, size[0]))
    assert (found == 153).all()
