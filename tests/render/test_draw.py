"""Colours, places and scales, read off the pictures themselves."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from camcli.errors import CamcliError
from camcli.images.geometry import Crop
from camcli.render.draw import COLORMAPS, DIM, Style, ceiling, heatmap, overlay, png, scaled
from camcli.render.panels import panel

CROP = Crop(40, 10, 80, 50)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.full((60, 120, 3), (200, 100, 50), np.uint8)


@pytest.fixture
def corner() -> np.ndarray:
    """Hot in the upper left quarter alone."""
    values = np.zeros((4, 4), np.float32)
    values[0, 0] = 3
    return values


def test_heat_is_red_and_where_the_network_saw_it(pixels: np.ndarray, corner: np.ndarray) -> None:
    pixels[:] = 128
    drawn = overlay(pixels, corner, CROP, Style("jet"), signed=False).astype(int)
    assert drawn.shape == pixels.shape
    hot, cold = drawn[12, 42], drawn[48, 78]
    assert hot[0] - hot[2] > 50, "red, and not blue: the order of channels is kept"
    assert cold[2] - cold[0] > 50, "jet is blue at zero"
    outside = np.ones((60, 120), bool)
    outside[CROP.slices] = False
    assert (drawn[outside] == (pixels[0, 0] * np.float32(DIM)).astype(np.uint8)).all()


def test_alpha(pixels: np.ndarray, corner: np.ndarray) -> None:
    only_photo = overlay(pixels, corner, CROP, Style(alpha=0), signed=False)
    assert (only_photo[CROP.slices] == pixels[CROP.slices]).all()
    only_heat = overlay(pixels, corner, CROP, Style(alpha=1), signed=False)
    hot = heatmap(corner, CROP, (60, 120), Style(), signed=False)
    assert (only_heat[CROP.slices] == hot[CROP.slices]).all()


def test_signed_maps_are_red_for_and_blue_against(pixels: np.ndarray) -> None:
    values = np.zeros((5, 5), np.float32)
    values[0, 0], values[4, 4] = 2, -2
    for photo in (0, 128, 255):
        drawn = overlay(np.full_like(pixels, photo), values, CROP, Style(), signed=True).astype(int)
        assert drawn[12, 42, 0] - drawn[12, 42, 2] > 50, "for: red"
        assert drawn[48, 78, 2] - drawn[48, 78, 0] > 50, "against: blue"
        assert (drawn[30, 60] == photo).all(), "neither: the photo"


def test_a_signed_scale_has_zero_in_the_middle() -> None:
    values = np.array([[-1, 0], [2, 4]], np.float32)
    np.testing.assert_allclose(scaled(values, signed=True), [[0.375, 0.5], [0.75, 1]])
    np.testing.assert_allclose(scaled(values, signed=False), [[0, 0], [0.5, 1]])
    zero = np.zeros((2, 2), np.float32)
    assert (scaled(zero, signed=False) == 0).all()
    assert (scaled(zero, signed=True) == 0.5).all()


def test_an_empty_map_leaves_the_photo(pixels: np.ndarray) -> None:
    for shape in ((3, 3), (3, 40, 40)):
        drawn = overlay(pixels, np.zeros(shape, np.float32), CROP, Style(), signed=len(shape) == 3)
        assert (drawn[CROP.slices] == pixels[CROP.slices]).all()


def test_gradients_are_an_image_grey_at_zero(pixels: np.ndarray) -> None:
    gradients = np.zeros((3, 40, 40), np.float32)
    gradients[0, 5, 5], gradients[2, 30, 30] = 1, -1
    drawn = overlay(pixels, gradients, CROP, Style(), signed=True)[CROP.slices].astype(int)
    assert drawn[20, 20].tolist() == [128, 128, 128]
    assert drawn[5, 5].tolist() == [255, 128, 128]
    assert drawn[30, 30].tolist() == [128, 128, 0]


def test_a_heatmap_of_gradients_is_red_for_and_blue_against(pixels: np.ndarray) -> None:
    gradients = np.zeros((3, 40, 40), np.float32)
    gradients[:, 4:8, 4:8], gradients[0, 30:34, 30:34] = 0.5, -1
    gradients[0, 20:24, 20:24], gradients[1, 20:24, 20:24] = 1, -1
    drawn = heatmap(gradients, CROP, (60, 120), Style(), signed=True).astype(int)
    table = Style().table(signed=True)
    assert (drawn[16, 46] == table[-1]).all(), "0.5 in each of three colours is the most"
    assert drawn[42, 72, 2] - drawn[42, 72, 0] > 50, "against: blue"
    assert np.abs(drawn[32, 62] - table[128]).max() <= 2, "what cancels is white"
    assert not drawn[:10].any(), "black where the network did not look"


def test_a_ceiling_that_maps_share(pixels: np.ndarray, corner: np.ndarray) -> None:
    for signed in (False, True):
        own = overlay(pixels, corner, CROP, Style(), signed)
        assert ceiling(corner, signed=signed) == 3
        assert (overlay(pixels, corner, CROP, Style(), signed, top=3) == own).all()
        twice = overlay(pixels, 2 * corner, CROP, Style(), signed, top=3)
        assert (twice[12, 42] == own[12, 42]).all(), "what lies beyond is cut"
        half = overlay(pixels, corner, CROP, Style(), signed, top=6)
        assert (half == overlay(pixels, corner / 2, CROP, Style(), signed, top=3)).all()
        assert (half != own).any()
    gradients = np.zeros((3, 40, 40), np.float32)
    gradients[:, 5:9, 5:9] = -1
    drawn = overlay(pixels, gradients, CROP, Style(), signed=True, top=2)[CROP.slices]
    assert drawn[6, 6].tolist() == [64, 64, 64], "half of the way from grey to black"


@pytest.mark.parametrize("name", COLORMAPS)
def test_every_colormap(name: str) -> None:
    for signed in (False, True):
        assert Style(name).table(signed).shape == (256, 3)


def test_unknown_style() -> None:
    with pytest.raises(CamcliError, match="unknown colormap 'jett': did you mean 'jet'"):
        Style("jett")
    with pytest.raises(CamcliError, match=r"alpha 1\.5: expected 0"):
        Style(alpha=1.5)


def test_panel_holds_the_three(pixels: np.ndarray, corner: np.ndarray) -> None:
    found = panel(pixels, corner, CROP, Style(), signed=False)
    assert (found[:, :120] == pixels).all()
    assert (found[:, -120:] == overlay(pixels, corner, CROP, Style(), signed=False)).all()
    hot = heatmap(corner, CROP, (60, 120), Style(), signed=False)
    assert (found[:, 122:242] == hot).all()


@pytest.mark.parametrize("signed", [False, True])
def test_a_panels_scale(pixels: np.ndarray, corner: np.ndarray, signed: bool) -> None:
    """From the highest value down, with numbers beside the ends and a signed map's zero."""
    found, table = panel(pixels, corner, CROP, Style(), signed), Style().table(signed)
    ramp, numbers = found[:, 244], found[:, 252:-122]
    assert (ramp[0] == table[255]).all()
    assert (ramp[-1] == table[0]).all()
    assert np.abs(ramp[30].astype(int) - table[126]).max() < 12, "evenly"
    dark = (numbers < 100).any((1, 2))
    assert dark[:10].any()
    assert dark[-10:].any()
    assert dark[25:35].any() == signed


@pytest.mark.parametrize("height", [1, 5, 700])
def test_panels_of_any_size_and_of_nothing(height: int) -> None:
    photo = np.full((height, 9, 3), 80, np.uint8)
    for values in (np.zeros((2, 2), np.float32), np.ones((3, 4, 4), np.float32)):
        found = panel(photo, values, Crop(0, 0, 9, height), Style(), signed=True)
        assert len(found) == height
        assert (found[:, :9] == photo).all()


def test_png_is_rgb(pixels: np.ndarray) -> None:
    with Image.open(io.BytesIO(png(pixels))) as image:
        assert image.format == "PNG"
        assert (np.asarray(image) == pixels).all()


def test_a_missing_system_library_is_one_line(tmp_path: Path, photo: Path) -> None:
    (tmp_path / "cv2.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file: No such file')"
    )
    found = subprocess.run(
        [sys.executable, "-m", "camcli", "explain", photo, "--weights", "none"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 2
    assert found.stderr.startswith("Error: OpenCV cannot be loaded (libGL.so.1: cannot open")
    assert "apt-get install libgl1" in found.stderr
    assert found.stderr.count("\n") == 1
