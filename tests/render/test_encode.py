"""Pictures as files, read again by Pillow and OpenCV."""

from __future__ import annotations

import hashlib
import io
import platform
from importlib.metadata import version

import cv2
import numpy as np
import pytest
from PIL import Image

from camcli.errors import CamcliError
from camcli.images.geometry import Pixels
from camcli.render import encode
from camcli.render.names import FORMATS

RANDOM = np.random.default_rng(0)
PICTURES = {
    "one pixel": np.array([[[1, 2, 3]]], np.uint8),
    "one row": RANDOM.integers(0, 256, (1, 777, 3), np.uint8),
    "one column": RANDOM.integers(0, 256, (777, 1, 3), np.uint8),
    "random": RANDOM.integers(0, 256, (67, 101, 3), np.uint8),
    "of one colour": np.full((300, 211, 3), (9, 200, 31), np.uint8),
    "black": np.zeros((300, 211, 3), np.uint8),
    "smooth": np.arange(90 * 70 * 3).reshape(90, 70, 3).astype(np.uint8),
    "a part": RANDOM.integers(0, 256, (67, 101, 3), np.uint8)[3:50, 5:99],
    "mirrored": RANDOM.integers(0, 256, (67, 101, 3), np.uint8)[:, ::-1],
}
ROWS, COLUMNS = np.mgrid[:200, :150]
KNOWN_PICTURE = np.dstack(
    [ROWS + COLUMNS, ROWS * COLUMNS % 7 + ROWS, ROWS**2 // 9 + COLUMNS // 4]
).astype(np.uint8)
KNOWN = {"isal 1.9.1": "6d68bce649e5"}
"""The first digits of SHA-256 of the PNG file of KNOWN_PICTURE, by encoder."""


@pytest.fixture(params=["isal", "opencv-python"])
def package(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Use the packages that encode PNG, one after the other."""
    if request.param == "isal":
        pytest.importorskip("isal", reason="isal is not installed")
        if encode.isal_zlib is None:
            pytest.skip("isal is used on x86-64 only")
    else:
        monkeypatch.setattr(encode, "isal_zlib", None)
    return str(request.param)


def read_by_opencv(data: bytes) -> Pixels:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)[..., ::-1])


def read_by_pillow(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "RGB"
        image.verify()  # the checksums
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("name", PICTURES)
def test_a_png_has_the_pixels(name: str, package: str) -> None:
    assert encode.package_of("png") == package
    data = encode.png(PICTURES[name])
    assert np.array_equal(read_by_pillow(data), PICTURES[name])
    assert np.array_equal(read_by_opencv(data), PICTURES[name])


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_has_the_picture(name: str, format_: str) -> None:
    found = encode.encoded(PICTURES[name], format_)
    kind = Image.open(io.BytesIO(found)).format
    assert kind == {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[format_]
    pixels = read_by_pillow(found)
    assert pixels.shape == PICTURES[name].shape
    if format_ != "jpg":
        assert np.array_equal(pixels, PICTURES[name])


def test_colours_of_a_jpeg_stay_within_their_edges() -> None:
    """Half the colours would reach a pixel into the grey, which is half as red then."""
    picture = np.full((64, 64, 3), 90, np.uint8)
    picture[:, 31:] = (225, 45, 40)
    found = read_by_pillow(encode.encoded(picture, "jpg")).astype(int)
    assert np.abs(found - picture).max() < 12


@pytest.mark.parametrize("format_", ["jpg", "webp"])
def test_a_picture_that_is_too_large_for_its_format_is_one_line(format_: str) -> None:
    with pytest.raises(CamcliError, match=r"70000x1 pixels.*--format png") as caught:
        encode.encoded(np.zeros((1, 70_000, 3), np.uint8), format_)
    assert "\n" not in str(caught.value)


def test_the_bytes_of_a_png_are_the_same_on_every_machine() -> None:
    encoder = f"{(used := encode.package_of('png'))} {version(used)}"
    if encoder not in KNOWN:
        pytest.skip(f"the bytes of {encoder} on {platform.machine()} are not written down")
    assert hashlib.sha256(encode.png(KNOWN_PICTURE)).hexdigest()[:12] == KNOWN[encoder]
