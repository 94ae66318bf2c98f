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
from camcli.images import Crop
from camcli.render import COLORMAPS, DIM, Style, heatmap, overlay, panel, png, scaled

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
