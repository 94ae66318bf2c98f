"""Heat over a photo as eyes see it: lightness, colour-blind readers, what is cold or unseen."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from camcli.images.geometry import Centres, Crop, MapArray, Pixels, Placement
from camcli.render.blend import FRAME, GROUND, UNSEEN, ground, tint
from camcli.render.draw import heatmap, overlay
from camcli.render.style import Style

RAMP: MapArray = np.linspace(0, 1, 256, dtype=np.float32)[None]
LEVELS = np.arange(256, dtype=np.uint8)[None]
JUST_NOTICEABLE = 2.3
"""The smallest difference in CIELAB that people see (Mahy et al. 1994)."""


def drawn_on(grey: int, signed: bool = False) -> Pixels:
    """Return the 256 colours of heat over a photo of one grey, (1,256,3)."""
    photo = np.full((1, 256, 3), grey, np.uint8)
    colours, shares = Style().layer(signed)
    return tint(ground(photo), LEVELS, colours, Style().most(signed) * shares)


def lightness(colours: NDArray[np.float32] | Pixels) -> NDArray[np.float32]:
    """Return CIELAB's L*, 0 to 100."""
    lab = cv2.cvtColor(np.asarray(colours, np.float32) / 255, cv2.COLOR_RGB2LAB)
    return np.asarray(lab[..., 0], np.float32)


def dip(values: NDArray[np.float32]) -> float:
    """Return how far values fall below an earlier one."""
    return float((np.maximum.accumulate(values) - values).max())


def deuteranope(colours: Pixels) -> NDArray[np.float32]:
    """Return colours as deuteranopes see them (Machado et al. 2009, doi:10.1109/TVCG.2009.113)."""
    matrix = [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]
    shares = colours / np.float32(255)
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    seen = (linear @ np.transpose(matrix)).clip(0, 1)
    back = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    return np.asarray(255 * back, np.float32)


@pytest.mark.parametrize("grey", [0, 32, 64, 96, 128])
def test_lightness_grows_with_the_heat(grey: int) -> None:
    found = lightness(drawn_on(grey))[0]
    assert dip(found) < 0.7, "rounding"
    assert found[-1] - found[0] > 40
    assert dip(lightness(deuteranope(drawn_on(grey)))[0]) < 0.5


@pytest.mark.parametrize(("grey", "limit"), [(160, 1), (192, JUST_NOTICEABLE), (255, 8)])
def test_the_hottest_is_the_lightest_on_light_photos(grey: int, limit: float) -> None:
    """On a white one, low heat is a little darker than none: it could not be seen otherwise."""
    for colours in (drawn_on(grey), deuteranope(drawn_on(grey))):
        found = lightness(colours)[0]
        assert dip(found) < limit
        assert found.argmax() > 250
        assert found[-1] - found[0] > 15


def test_the_classic_colours_are_not_in_order() -> None:
    """What the blend by heat is for: turbo is darkest where it is hottest."""
    found = lightness(Style(blend="even").table(signed=False)[None])[0]
    assert dip(found) > 60


def test_greyscale_keeps_the_order() -> None:
    drawn = drawn_on(100)
    grey = cv2.cvtColor(drawn, cv2.COLOR_RGB2GRAY)[0].astype(np.float32)
    assert dip(grey) <= 1, "rounding"
    assert grey[-1] - grey[0] > 100


@pytest.mark.parametrize("signed", [False, True])
def test_below_a_tenth_of_the_heat_the_photo_is_hardly_tinted(signed: bool) -> None:
    low = (128, 140) if signed else (0, 26)
    for grey in (30, 100, 200):
        drawn = drawn_on(grey, signed).astype(int)
        change = np.abs(drawn - ground(np.full((1, 1, 3), grey, np.uint8)))[0, slice(*low)]
        assert change.max() < 0.12 * 255
        assert change[:4].max() <= 1


def test_signed_maps_are_symmetrical() -> None:
    colours, opacity = Style().layer(signed=True)
    np.testing.assert_allclose(opacity, opacity[::-1], atol=1e-6)
    assert len(np.unique(colours[:128], axis=0)) == len(np.unique(colours[128:], axis=0)) == 1
    blue, red = lightness(colours[None, [0, -1]])[0]
    assert abs(blue - red) < 3, "neither end looks stronger"
    assert opacity[[127, 128]].max() == 0
    assert (np.diff(opacity[134:]) > 0).all()


def test_alpha_is_the_largest_opacity() -> None:
    values = np.ones((1, 1), np.float32)
    photo, whole = np.full((4, 4, 3), 100, np.uint8), Crop(0, 0, 4, 4)
    hottest = Style().layer(signed=False)[0][-1].astype(float)
    for alpha in (0, 0.3, 0.75, 1):
        drawn = overlay(photo, values, whole, Style(alpha=alpha), signed=False)[0, 0]
        expected = (1 - alpha) * ground(photo)[0, 0] + alpha * hottest
        np.testing.assert_allclose(drawn, expected, atol=1.5)


def test_the_photo_is_half_saturated() -> None:
    photo = np.array([[[200, 100, 50], [90, 90, 90]]], np.uint8)
    coloured, grey = ground(photo)[0].astype(int)
    spread = np.ptp(photo[0, 0].astype(int))
    assert np.ptp(coloured) == pytest.approx(GROUND * spread / 2, abs=1)
    assert grey.tolist() == [round(90 * GROUND)] * 3


def test_what_was_not_seen_is_dark_grey_behind_a_frame() -> None:
    photo = np.full((60, 90, 3), (200, 100, 50), np.uint8)
    drawn = overlay(photo, RAMP, Crop(15, 0, 75, 60), Style(), signed=False)
    outside = np.delete(drawn, np.s_[14:76], axis=1)
    assert np.ptp(outside.reshape(-1)) == 0
    luma = 0.2126 * 200 + 0.7152 * 100 + 0.0722 * 50
    assert outside[0, 0, 0] == pytest.approx(UNSEEN * luma, abs=1)
    assert (drawn[:, [14, 75]] == FRAME).all()
    whole = overlay(photo, np.zeros((1, 1), np.float32), Crop(0, 0, 90, 60), Style(), signed=False)
    assert (whole == ground(photo)).all(), "no frame around the whole image"


def test_a_map_alone_fades_to_black() -> None:
    drawn = heatmap(RAMP, Crop(0, 0, 256, 4), (4, 256), Style(), signed=False)
    found = lightness(drawn)[2]
    assert found[0] == 0
    assert dip(found) < 0.5
    assert (drawn[0, -1] == Style().table(signed=False)[-1]).all()


def test_an_even_blend_keeps_the_classic_look() -> None:
    """The pixels that version 0.4 drew, over photos and beside them."""
    photo = (np.arange(6 * 8 * 3) * 37 % 256).astype(np.uint8).reshape(6, 8, 3)
    values = np.array([[0, 1, 2], [-1, 3, 0.5]], np.float32)
    placed = Placement(1, 0, 7, 5, cells=Centres(2.5, 1.5, 1.5, 2))
    for signed, expected in ((False, _UNSIGNED), (True, _SIGNED)):
        for style in (Style(blend="even"), Style("auto", 0.5, "even")):
            drawn = overlay(photo, values, placed, style, signed)
            assert drawn.tobytes().hex() == expected
    turbo = overlay(photo, values, placed, Style("turbo", blend="even"), signed=False)
    assert turbo.tobytes().hex() == _UNSIGNED


_UNSIGNED = (
    "000c1950537a870a32418ec896f032928557cabc8e03101d2936438c0f3643466e7dca8452ac6ecec19386784a2d3a47"
    "530714484b727f822a57b073c2da96389d6e70d4a5570a1724313e84872e3b3e66d8ca9c91704c6c9eec2456a3273441"
    "4e010e40436a777a22948658cdac88285aa86092df5104111e2b38455205121f2c3946530613202d3a47540814212e3b"
)
_SIGNED = (
    "000c196f94b9de03285f6284b89a1373324ea7668103101d293643e70c31567ba0c2c514614260ab6a866726422d3a47"
    "5307145780a9b7e02c614b6aaf7b974d3352977d9c570a1724313ea6d4463c6a97b484a1762d4797a3c5192548273441"
    "4e010e43709e94c234683855a95f7a212d4f818db05104111e2b38455205121f2c3946530613202d3a47540814212e3b"
)
