"""Values of more than 8 bits: the levels by which they are shown, guessed ones with a warning."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from camcli.errors import CamcliWarning, ImageError
from camcli.images import levels
from camcli.images.convert import to_rgb
from camcli.images.decode import Picture, Reading, read

STEPS = np.tile(np.linspace(0, 1, 256), (8, 1))
"""A ramp (8,256) from 0 to 1."""


def picture(
    values: NDArray[Any], kind: str = "TIFF", window: tuple[float, float] | None = None, **save: Any
) -> Picture:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, kind, **save)
    return read(stream, Reading(window_level=window))


def shown(found: Picture) -> list[int]:
    """Return the first and the last grey of the ramp."""
    return found.pixels[0, [0, -1], 0].tolist()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_values_of_12_bits_are_visible_and_their_levels_a_guess(kind: str) -> None:
    values = (100 + STEPS * 3900).astype(np.uint16)
    with pytest.warns(CamcliWarning, match="--window-level C,W sets the range"):
        found = picture(values, kind)
    assert found.levels == (100, 4000)
    assert shown(found) == [0, 255]
    exact = (values[0] - 100) / 3900 * 255
    assert np.abs(found.pixels[0, :, 0] - exact).max() <= 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((STEPS * 65535).astype(np.uint16), (0, 65535)),
        ((20000 + STEPS * 20000).astype(np.uint16), (0, 65535)),
        ((STEPS * 200).astype(np.uint16), (0, 255)),
        ((STEPS * 40000).astype(np.int32), (0, 65535)),
        ((STEPS * 0.75).astype(np.float32), (0, 1)),
        ((STEPS * 200).astype(np.float32), (0, 255)),
        ((STEPS * 40000).astype(np.float32), (0, 65535)),
    ],
)
def test_values_that_fill_a_usual_range_are_shown_in_it(
    values: NDArray[Any], expected: tuple[float, float]
) -> None:
    found = picture(values)  # warnings are errors
    assert found.levels == expected
    exact = values[0] / expected[1] * 255
    assert np.abs(found.pixels[0, :, 0] - exact).max() <= 1


@pytest.mark.parametrize(
    "values",
    [
        (STEPS * 3000 - 1000).astype(np.int32),  # Hounsfield units
        (STEPS * 2e9).astype(np.int32),
        (STEPS * 0.25).astype(np.float32),
        (STEPS * 2 - 1).astype(np.float32),
        (STEPS * 6e38 - 3e38).astype(np.float32),
        (STEPS * 1e6).astype(np.float32),
    ],
)
def test_other_values_are_shown_from_the_least_to_the_largest(values: NDArray[Any]) -> None:
    with pytest.warns(CamcliWarning, match="from the least to the largest"):
        found = picture(values)
    assert found.levels == (float(values.min()), float(values.max()))
    assert np.abs(found.pixels[0, :, 0] - STEPS[0] * 255).max() <= 1


def test_nan_and_infinity_do_not_set_the_levels() -> None:
    values = (STEPS * 3 - 1).astype(np.float32)
    values[1, :3] = np.nan, np.inf, -np.inf
    with pytest.warns(CamcliWarning):
        found = picture(values)
    assert found.levels == (-1, 2)
    assert found.pixels[1, :3, 0].tolist() == [0, 255, 0]


@pytest.mark.parametrize("value", [0, 1000])
def test_an_image_of_one_value_is_black(value: int) -> None:
    with pytest.warns(CamcliWarning):
        found = picture(np.full((4, 4), value, np.uint16))
    assert found.levels == (value, value)
    assert not found.pixels.any()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_window_is_that_of_dicom(kind: str) -> None:
    found = picture((STEPS * 4095).astype(np.uint16), kind, (1000, 500))
    assert found.levels == (750, 1250)
    values = (STEPS[0] * 4095).astype(np.uint16).astype(float)
    exact = ((values - 750) / 500 * 255).clip(0, 255)
    assert np.abs(found.pixels[0, :, 0] - exact).max() <= 1


def test_a_window_leaves_images_of_8_bits_as_they_are() -> None:
    found = picture((STEPS * 255).astype(np.uint8), "PNG", (10, 5))
    assert found.levels is None
    assert shown(found) == [0, 255]


def test_pgm_jpeg_2000_and_12_bit_tiff_state_their_range(tmp_path: Path) -> None:
    """A dark photo stays dark, without a warning."""
    values = (STEPS * 1000).astype(np.uint16)
    (tmp_path / "a.pgm").write_bytes(b"P5 256 8 4095\n" + values.astype(">u2").tobytes())
    assert abs(shown(read(tmp_path / "a.pgm"))[1] - 1000 / 4095 * 255) <= 1
    found = picture(values, "JPEG2000")
    assert found.levels == levels.SIXTEEN
    assert shown(found)[1] <= 4


def test_a_tiff_of_12_bits_states_its_range() -> None:
    image = Image.fromarray((STEPS * 1000).astype(np.uint16))
    image.tag_v2 = {258: (12,)}  # type: ignore[attr-defined] # Pillow reads such files and writes none
    assert levels.depth_of(image).stated == (0, 4095)


def test_white_may_be_the_least_value() -> None:
    found = picture((STEPS * 65535).astype(np.uint16), tiffinfo={262: 0})
    assert shown(found) == [255, 0]


def test_a_transparent_grey_of_16_bits_is_white() -> None:
    found = picture((STEPS * 65535).astype(np.uint16), "PNG", transparency=0)
    assert found.pixels[0, :2, 0].tolist() == [255, 1]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colours_of_16_bits_are_read_as_8_and_dark_ones_are_no_surprise(
    suffix: str, tmp_path: Path
) -> None:
    file, values = tmp_path / f"a{suffix}", np.repeat(STEPS[:, :, None], 3, 2)
    cv2.imwrite(str(file), (values * 65535).astype(np.uint16))
    assert read(file).levels == levels.SIXTEEN
    cv2.imwrite(str(file), (values * 4095).astype(np.uint16))
    with pytest.raises(ImageError, match=f"a{suffix}: its colours of 16 bits are all below 4096"):
        read(file)
    cv2.imwrite(str(file), (values * 16383).astype(np.uint16))
    with pytest.warns(CamcliWarning, match="less than a quarter of their range"):
        read(file)
    with pytest.raises(ImageError, match=f"a{suffix}: --window-level is for grey values"):
        read(file, Reading(window_level=(2000, 4000)))


def test_an_image_given_to_python_has_the_same_levels_and_warning() -> None:
    image = Image.fromarray((STEPS * 4000).astype(np.uint16))
    with pytest.warns(CamcliWarning):
        assert to_rgb(image)[0, [0, -1], 0].tolist() == [0, 255]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert to_rgb(Image.fromarray((STEPS * 255).astype(np.uint8))).max() == 255
