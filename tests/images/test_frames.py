"""Frames of animations and pages of files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from camcli.errors import CamcliWarning, ImageError
from camcli.images.decode import Reading, read, thumbnail

GREYS = (40, 120, 200)
ANIMATED = ("GIF", "PNG", "WEBP", "TIFF")


def frames(kind: str, sizes: tuple[int, ...] = (16, 16, 16)) -> io.BytesIO:
    first, *others = (
        Image.new("RGB", (size, 16), (grey,) * 3) for grey, size in zip(GREYS, sizes, strict=True)
    )
    stream = io.BytesIO()
    lossless = {"lossless": True} if kind == "WEBP" else {}
    first.save(stream, kind, save_all=True, append_images=others, **lossless)
    return stream


@pytest.mark.parametrize("kind", ANIMATED)
def test_the_first_frame_is_read_with_a_warning(kind: str) -> None:
    with pytest.warns(CamcliWarning, match="--frame N picks another"):
        found = read(frames(kind))
    assert found.frame == 1
    assert abs(int(found.pixels.mean()) - GREYS[0]) <= 1


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("kind", ANIMATED)
def test_a_frame_is_picked_by_its_number_from_1(kind: str, number: int) -> None:
    found = read(frames(kind), Reading(frame=number))  # warnings are errors
    assert found.frame == number
    assert abs(int(found.pixels.mean()) - GREYS[number - 1]) <= 1


@pytest.mark.parametrize("kind", ANIMATED)
def test_a_frame_that_the_file_does_not_have_is_one_line(kind: str) -> None:
    with pytest.raises(ImageError, match="it has 3 frames, and no --frame 4"):
        read(frames(kind), Reading(frame=4))


def test_a_file_of_one_frame_has_no_number(photo: Path) -> None:
    assert read(photo).frame is None
    assert read(photo, Reading(frame=1)).frame is None
    with pytest.raises(ImageError, match=r"photo.jpg: it has one frame, and no --frame 2"):
        read(photo, Reading(frame=2))


def test_damage_to_another_frame_does_not_change_the_first() -> None:
    whole = frames("GIF").getvalue()
    with pytest.warns(CamcliWarning):
        expected = read(io.BytesIO(whole)).pixels
    for cut in range(len(whole) - 30, len(whole)):
        with pytest.warns(CamcliWarning):
            assert np.array_equal(read(io.BytesIO(whole[:cut])).pixels, expected)


def test_the_pictures_that_a_camera_attaches_to_a_photo_are_no_choice(photo: Path) -> None:
    stream = io.BytesIO()
    with Image.open(photo) as image:
        image.save(stream, "MPO", save_all=True, append_images=[image.reduce(4)])
    found = read(stream)  # warnings are errors
    assert (found.frame, found.pixels.shape) == (None, (60, 90, 3))
    assert read(stream, Reading(frame=2)).pixels.shape == (15, 23, 3)


def test_a_page_larger_than_max_pixels_is_refused() -> None:
    stream = frames("TIFF", (16, 16, 400))
    assert read(stream, Reading(max_pixels=1000, frame=2)).frame == 2
    with pytest.raises(ImageError, match="400 x 16 pixels, more than --max-pixels 1000"):
        read(stream, Reading(max_pixels=1000, frame=3))


def test_a_thumbnail_shows_the_frame_that_was_explained(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(frames("GIF").getvalue())
    small, size = thumbnail(tmp_path / "a.gif", 8, Reading(frame=3))
    assert (small.pixels.shape, size) == ((8, 8, 3), (16, 16))
    assert abs(int(small.pixels.mean()) - GREYS[2]) <= 1


def pages_of_16_bits(folder: Path, bands: int = 4) -> tuple[Path, NDArray[np.uint16]]:
    values = np.random.default_rng(0).integers(0, 65535, (bands, 8, 9), np.uint16)
    first, *rest = (Image.fromarray(page) for page in values)
    first.save(folder / "scene.tif", save_all=True, append_images=rest)
    return folder / "scene.tif", values


def test_pages_of_16_bits_are_bands_of_one_range(tmp_path: Path) -> None:
    file, values = pages_of_16_bits(tmp_path)
    found = read(file, Reading(window_level=(32767.5, 65535)), channels=4).bands
    expected = (values / 65535 * 255).astype(np.uint8)
    np.testing.assert_allclose(found.astype(int), expected.transpose(1, 2, 0).astype(int), atol=1)


def test_pages_of_16_bits_need_a_range(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"--window-level C,W$"):
        read(pages_of_16_bits(tmp_path)[0], channels=4)
    with pytest.raises(ImageError, match="4 pages, and the network takes 5"):
        read(pages_of_16_bits(tmp_path)[0], channels=5)
