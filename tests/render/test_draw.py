"""Colours, positions and scales of heatmaps and overlays, read from their pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from camcli.errors import CamcliError
from camcli.images.geometry import PIXELS, Centres, Crop, Placement
from camcli.render.blend import ground
from camcli.render.draw import (
    DIM,
    ceiling,
    heatmap,
    normalise,
    overlay,
    place_map,
    resized,
)
from camcli.render.enlarge import enlarge
from camcli.render.names import BLENDS, COLORMAPS
from camcli.render.style import Style
from tests.support.pictures import CROP, SHAPE, constant_photo, hot_corner


def test_the_colour_maps_are_those_of_opencv() -> None:
    names = sorted(name.lower() for name in dir(cv2) if name.startswith("COLORMAP_"))
    assert [f"colormap_{name}" for name in COLORMAPS[2:]] == names


@pytest.mark.parametrize("name", COLORMAPS)
def test_every_colormap_has_256_colours(name: str) -> None:
    for signed in (False, True):
        assert Style(name).table(signed).shape == (256, 3)


def test_unknown_styles_are_refused() -> None:
    with pytest.raises(CamcliError, match="unknown colormap 'jett': did you mean 'jet'"):
        Style("jett")
    with pytest.raises(CamcliError, match=r"alpha 1\.5: expected 0"):
        Style(alpha=1.5)
    with pytest.raises(CamcliError, match="unknown blend 'heet': did you mean 'heat'"):
        Style(blend="heet")


def test_a_signed_map_is_scaled_symmetrically_around_zero() -> None:
    values = np.array([[-1, 0], [2, 4]], np.float32)
    np.testing.assert_allclose(normalise(values, signed=True), [[0.375, 0.5], [0.75, 1]])
    np.testing.assert_allclose(normalise(values, signed=False), [[0, 0], [0.5, 1]])
    zero = np.zeros((2, 2), np.float32)
    assert (normalise(zero, signed=False) == 0).all()
    assert (normalise(zero, signed=True) == 0.5).all()


def test_a_placed_map_lies_in_its_crop() -> None:
    values = np.array([[-1, 0], [0, 2]], np.float32)
    found = place_map(values, Crop(10, 0, 30, 20), (20, 40))
    assert found.shape == (20, 40)
    assert not found[:, :10].any()
    assert not found[:, 30:].any()
    assert (found[0, 10], found[-1, 29]) == (0, 1)


def test_a_placed_map_is_clipped_and_scaled_after_resizing() -> None:
    values = np.array([[-3, 1]], np.float32)
    (found,) = place_map(values, Crop(0, 0, 8, 1), (1, 8))
    between = np.linspace(-2.5, 0.5, 4)
    assert found == pytest.approx(np.maximum([-3, -3, *between, 1, 1], 0))
    assert place_map(values, Crop(0, 0, 1, 1), (1, 1)).max() == 0, "the mean is negative"


def test_heat_is_red_and_lies_in_the_crop() -> None:
    pixels = np.full((*SHAPE, 3), 128, np.uint8)
    drawn = overlay(pixels, hot_corner(), CROP, Style("jet", blend="even"), signed=False).astype(
        int
    )
    assert drawn.shape == pixels.shape
    hot, cold = drawn[12, 42], drawn[48, 78]
    assert hot[0] - hot[2] > 50, "red, not blue: the order of channels is kept"
    assert cold[2] - cold[0] > 50, "jet is blue at zero"
    outside = np.ones(SHAPE, bool)
    outside[CROP.slices] = False
    assert (drawn[outside] == (pixels[0, 0] * np.float32(DIM)).astype(np.uint8)).all()


def test_alpha_blends_photo_and_heat() -> None:
    pixels, values = constant_photo(), hot_corner()
    only_photo = overlay(pixels, values, CROP, Style(alpha=0, blend="even"), signed=False)
    assert (only_photo[CROP.slices] == pixels[CROP.slices]).all()
    only_heat = overlay(pixels, values, CROP, Style(alpha=1, blend="even"), signed=False)
    heat = heatmap(values, CROP, SHAPE, Style(blend="even"), signed=False)
    assert (only_heat[CROP.slices] == heat[CROP.slices]).all()


@pytest.mark.parametrize("blend", BLENDS)
def test_signed_overlays_are_red_for_positive_and_blue_for_negative_values(blend: str) -> None:
    values = np.zeros((5, 5), np.float32)
    values[0, 0], values[4, 4] = 2, -2
    for grey in (0, 128, 255):
        photo = np.full((*SHAPE, 3), grey, np.uint8)
        drawn = overlay(photo, values, CROP, Style(blend=blend), signed=True).astype(int)
        assert drawn[12, 42, 0] - drawn[12, 42, 2] > 50, "positive: red"
        assert drawn[48, 78, 2] - drawn[48, 78, 0] > 50, "negative: blue"
        expected = photo[:1, :1] if blend == "even" else ground(photo[:1, :1])
        assert (drawn[30, 60] == expected).all(), "zero: the photo"


@pytest.mark.parametrize("blend", BLENDS)
def test_an_overlay_of_zeros_is_the_photo(blend: str) -> None:
    pixels = constant_photo()
    photo = pixels[CROP.slices]
    expected = photo if blend == "even" else ground(photo)
    for shape in ((3, 3), (3, 40, 40)):
        zeros, signed = np.zeros(shape, np.float32), len(shape) == 3
        drawn = overlay(pixels, zeros, CROP, Style(blend=blend), signed)
        assert (drawn[CROP.slices] == expected).all()


def test_an_overlay_of_gradients_is_grey_at_zero() -> None:
    gradients = np.zeros((3, 40, 40), np.float32)
    gradients[0, 5, 5], gradients[2, 30, 30] = 1, -1
    drawn = overlay(constant_photo(), gradients, CROP, Style(), signed=True)[CROP.slices]
    assert drawn[20, 20].tolist() == [128, 128, 128]
    assert drawn[5, 5].tolist() == [255, 128, 128]
    assert drawn[30, 30].tolist() == [128, 128, 0]


def test_a_heatmap_of_gradients_shows_their_sum_over_colours() -> None:
    gradients = np.zeros((3, 40, 40), np.float32)
    gradients[:, 4:8, 4:8], gradients[0, 30:34, 30:34] = 0.5, -1
    gradients[0, 20:24, 20:24], gradients[1, 20:24, 20:24] = 1, -1
    drawn = heatmap(gradients, CROP, SHAPE, Style(), signed=True).astype(int)
    table = Style().table(signed=True)
    assert (drawn[16, 46] == table[-1]).all(), "0.5 in each colour is the maximum"
    assert drawn[42, 72, 2] - drawn[42, 72, 0] > 50, "negative: blue"
    assert np.abs(drawn[32, 62] - table[128]).max() <= 2, "1 and -1 sum to zero: white"
    assert not drawn[:10].any(), "black outside the crop"


@pytest.mark.parametrize("signed", [False, True])
def test_maps_can_share_a_ceiling(signed: bool) -> None:
    pixels, values = constant_photo(), hot_corner()
    own = overlay(pixels, values, CROP, Style(), signed)
    assert ceiling(values, signed=signed) == 3
    assert (overlay(pixels, values, CROP, Style(), signed, top=3) == own).all()
    twice = overlay(pixels, 2 * values, CROP, Style(), signed, top=3)
    assert (twice[12, 42] == own[12, 42]).all(), "larger values are clipped"
    half = overlay(pixels, values, CROP, Style(), signed, top=6)
    assert (half == overlay(pixels, values / 2, CROP, Style(), signed, top=3)).all()
    assert (half != own).any()


def test_gradients_can_share_a_ceiling() -> None:
    gradients = np.zeros((3, 40, 40), np.float32)
    gradients[:, 5:9, 5:9] = -1
    drawn = overlay(constant_photo(), gradients, CROP, Style(), signed=True, top=2)[CROP.slices]
    assert drawn[6, 6].tolist() == [64, 64, 64], "halfway between grey and black"


def test_a_map_is_drawn_at_the_centres_of_its_cells() -> None:
    """The value of a cell is at its centre, and constant beyond the outermost centres."""
    placed = Placement(2, 1, 18, 11, cells=Centres(4.5, 2.5, 6, 3))
    values = np.array([[0, 1, 0], [0, 0, 4]], np.float32)
    found = place_map(values, placed, (12, 20))
    assert not found[:, :2].any()
    assert not found[0].any()
    across, down = np.arange(2, 18) + 0.5, np.arange(1, 11) + 0.5
    rows = [np.interp(across, [4.5, 10.5, 16.5], row) / 4 for row in values]
    expected = [np.interp(down, [2.5, 5.5], column) for column in zip(*rows, strict=True)]
    np.testing.assert_allclose(found[1:11, 2:18], np.transpose(expected), atol=1e-6)


def test_enlarged_tensors_are_those_that_are_drawn() -> None:
    maps = torch.rand(2, 5, 7, dtype=torch.float64)
    for centres in (None, Centres(0.5, 3.5, 8, 6), Centres(17.5, 17.5, 2.5, 3)):
        found = enlarge(maps, (36, 50), centres)
        for values, enlarged in zip(maps, found, strict=True):
            drawn = resized(values.float().numpy(), Crop(0, 0, 50, 36).placed(centres, (50, 36)))
            np.testing.assert_allclose(enlarged.numpy(), drawn, atol=1e-6)
    assert enlarge(maps, (5, 7), PIXELS) is maps
