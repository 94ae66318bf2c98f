"""Orientation, modes, damage and standard input of image files."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from camcli.errors import ImageError
from camcli.images.decode import decode
from camcli.images.find import find

Transpose = Image.Transpose
STORED = {
    1: None,
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}
"""The transposition with which a camera stores an upright image, by EXIF orientation."""


@pytest.mark.parametrize("orientation", STORED)
def test_the_exif_orientation_is_applied(orientation: int, tmp_path: Path) -> None:
    upright = np.zeros((20, 30, 3), np.uint8)
    upright[:10, :15, 0] = 255  # red in the upper left corner
    transposition = STORED[orientation]
    stored = Image.fromarray(upright)
    stored = stored if transposition is None else stored.transpose(transposition)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(decode(tmp_path / "x.png"), upright)


RAMP = np.linspace(0, 255, 16).astype(np.uint8)
GREY = np.tile(RAMP, (8, 1))


@pytest.mark.parametrize(
    ("image", "tolerance"),
    [
        (Image.fromarray(GREY), 0),
        (Image.fromarray(GREY).convert("P"), 1),
        (Image.fromarray(np.stack([GREY] * 3, -1)).convert("CMYK"), 1),
        (Image.fromarray(GREY.astype(np.uint16) * 257), 1),
        (Image.fromarray(GREY.astype(np.int32) * 257), 1),
        (Image.fromarray(GREY.astype(np.float32) / 255), 1),
    ],
    ids=["L", "P", "CMYK", "I;16", "I", "F"],
)
def test_modes_keep_their_values(image: Image.Image, tolerance: int, tmp_path: Path) -> None:
    image.save(tmp_path / "x.tif")
    pixels = decode(tmp_path / "x.tif")
    assert pixels.shape == (8, 16, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - RAMP[:, None]).max() <= tolerance


def test_a_bilevel_image_is_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(GREY).convert("1").save(tmp_path / "x.tif")
    pixels = decode(tmp_path / "x.tif")
    assert pixels.shape == (8, 16, 3)
    assert set(pixels.flat) == {0, 255}


def test_floats_above_one_are_taken_as_0_to_255(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.float32) * 0.8).save(tmp_path / "x.tif")
    assert np.abs(decode(tmp_path / "x.tif")[0, :, 0] - 0.8 * RAMP).max() <= 1, "dark stays dark"


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_composited_on_white(mode: str, tmp_path: Path) -> None:
    image = Image.merge(mode, [Image.fromarray(GREY)] * len(mode))
    image.save(tmp_path / "x.tif")
    pixels = decode(tmp_path / "x.tif")
    assert pixels.shape == (8, 16, 3)
    assert pixels[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty.jpg", "the file is empty"),
        ("text.jpg", "not an image that Pillow can read"),
        ("short.jpg", "image file is truncated"),
        ("folder.jpg", "Is a directory"),
        ("missing.jpg", "No such file or directory"),
        (f"{'long' * 99}.jpg", "File name too long"),
    ],
)
def test_unreadable_files_raise_one_line(
    name: str, message: str, tmp_path: Path, photo: Path
) -> None:
    whole = photo.read_bytes()
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "short.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(ImageError, match=rf"{name}: .*{message}"):
        decode(tmp_path / name)


def test_too_many_pixels_are_refused(photo: Path) -> None:
    with pytest.raises(ImageError, match="90 x 60 pixels, more than --max-pixels 5399"):
        decode(photo, max_pixels=5399)
    assert decode(photo, max_pixels=5400).shape == (60, 90, 3)


@pytest.mark.parametrize(
    "error", [RuntimeError("Failed to decode"), NotImplementedError("DXT9"), MemoryError()]
)
def test_an_error_inside_pillow_is_an_image_error(
    error: Exception, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(_: object) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "load", load)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(ImageError, match=r"photo.jpg: damaged image"):
        decode(photo)


def test_standard_input(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(photo.read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    (source,) = find(["-"])
    assert source.name == Path("stdin")
    assert np.array_equal(decode(source.path), decode(photo))
    with pytest.raises(ImageError, match="standard input: the file is empty"):
        decode(source.path)


STARTS = {
    "WEBP": b"RIFF\xff\xff\xff\x7fWEBPVP8L",
    "AVIF": b"\0\0\0\x1cftypavif",
    "XPM": b"/* XPM */\n",
    "JPEG": b"\xff\xd8\xff\xe0\0\x02",
    "PNG": b"\x89PNG\r\n\x1a\n",
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_a_file_of_a_terabyte_is_refused_at_once(start: bytes, tmp_path: Path) -> None:
    """Pillow would read the whole of it, or a whole line."""
    with (file := tmp_path / "a.png").open("wb") as stream:
        stream.write(start)
        stream.truncate(1 << 40)
    with pytest.raises(ImageError, match=r"a\.png: "):
        decode(file)
