"""Decode image files to upright RGB arrays. Damaged files raise ImageError with one line."""

from __future__ import annotations

import contextlib
import io
import struct
import sys
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from camcli.errors import CamcliWarning, ImageError, one_line, without_frames
from camcli.images import formats
from camcli.images.convert import rgb_of, to_bands, warned
from camcli.images.geometry import Pixels, Size
from camcli.images.levels import Levels
from camcli.images.memory import Budget
from camcli.images.regular import limited, read_at_most
from camcli.images.store import AnyPath, RemotePath
from camcli.images.tars import open_file

STDIN = Path("-")
"""The path that stands for standard input."""

DECODE_ERRORS = (
    *(ValueError, SyntaxError, EOFError, RuntimeError, MemoryError, struct.error, zlib.error),
    *(LookupError, TypeError, AttributeError, ArithmeticError),
)
"""The exceptions besides OSError that Pillow's readers raise on damaged files."""

MAX_PIXELS = 178_956_970
"""The largest image that is read, in pixels. Pillow refuses larger ones by itself."""

MAX_INPUT = 2**31
"""The most bytes that are read from standard input, which has no size."""

MAX_PART = 2**28
"""The most bytes of a file that are read at once: Pillow reads the whole of some formats."""

FIRST_FRAME = (
    "of a file with several frames or pages the first one is explained (frame in the manifest): "
    "--frame N picks another"
)

_TRANSPOSED = (5, 6, 7, 8)
"""The EXIF orientations that swap width and height."""
_COMPOSITES = ("PSD",)
"""Formats whose frames are the layers of one picture, which Pillow reads as a whole."""
_ATTACHMENTS = ("MPO",)
"""Formats of cameras whose first frame is the photo, and the others are made of it."""


@dataclass(frozen=True)
class Reading:
    """How image files are read.

    An image of more than `max_pixels` pixels is refused before memory is allocated for it. `frame`
    counts from 1; None is the first frame, with a warning if there are others. `window_level` is
    the centre and the width of the values that are drawn from black to white, in images of more
    than 8 bits.
    """

    max_pixels: int = MAX_PIXELS
    frame: int | None = None
    window_level: tuple[float, float] | None = None


DEFAULTS = Reading()


@dataclass(frozen=True)
class Picture:
    """An image that was read, upright.

    `pixels` are RGB (H,W,3), and `bands` (H,W,C) what a network of C input channels takes.
    `levels` are the values drawn black and white, None for an image of 8 bits. `frame` counts from
    1, and is None for a file with one frame.
    """

    pixels: Pixels
    bands: Pixels
    levels: Levels | None = None
    frame: int | None = None


def fetch(path: AnyPath) -> AnyPath:
    """Return a remote file with its content, so that it is read once, and a local one unchanged.

    Raises ImageError.
    """
    if not isinstance(path, RemotePath):
        return path
    try:
        return path.fetch()
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}") from None


def decode(source: AnyPath | BinaryIO, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Read an image file as RGB, as `read` does. Raises ImageError."""
    return read(source, Reading(max_pixels)).pixels


def read(
    source: AnyPath | BinaryIO,
    reading: Reading = DEFAULTS,
    channels: int = 3,
    budget: Budget | None = None,
) -> Picture:
    """Read an image file. Apply its EXIF orientation and composite transparency on white.

    The bands for a network of one or three channels are RGB. Other numbers are the bands of the
    file, such as RGBA or CMYK, or its grey pages. `budget` limits the memory of the images that are
    decoded at the same time.

    Raises ImageError for a file that is not a complete image, and where it has another number of
    bands. Warns of levels that are a guess, and of frames that are not read.
    """
    with open_image(source, reading.max_pixels) as image, _decoding(image, budget):
        _seek(image, reading)
        colours, found = warned(*rgb_of(image, reading.window_level))
        pixels = np.asarray(colours)
        if channels not in (1, 3):
            return Picture(pixels, to_bands(image, channels, reading.window_level), found)
        frame = _frame_of(image, reading)
        if frame and not reading.frame:
            warnings.warn(FIRST_FRAME, CamcliWarning, stacklevel=2)
        return Picture(pixels, pixels, found, frame)


def thumbnail(file: AnyPath, longest: int, reading: Reading = DEFAULTS) -> tuple[Picture, Size]:
    """Read an image file as `read` does and reduce its longer side to at most `longest` pixels.

    Return the picture and the size of the original. JPEGs are reduced while they are decoded, which
    takes a fraction of the time. Raises ImageError.
    """
    with open_image(file, reading.max_pixels) as image:
        _seek(image, reading)
        width, height = image.size
        transposed = image.getexif().get(ExifTags.Base.Orientation, 1) in _TRANSPOSED
        image.draft(None, (longest, longest))
        small, found, _ = rgb_of(image, reading.window_level)
        frame = _frame_of(image, reading)
    small.thumbnail((longest, longest), reducing_gap=2.0)
    pixels = np.asarray(small)
    return Picture(pixels, pixels, found, frame), (height, width) if transposed else (width, height)


@contextlib.contextmanager
def open_image(source: AnyPath | BinaryIO, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open a file of one of FORMATS with Pillow. Every image file is opened here.

    Errors inside the context are raised as ImageError with one line.
    """
    name = source if isinstance(source, AnyPath) and source != STDIN else "standard input"
    try:
        with _stream(source) as stream, _opened(stream) as image:
            _check_size(image, max_pixels)
            yield image
    except (ImageError, OSError, Image.DecompressionBombError, *DECODE_ERRORS) as error:
        without_frames(error)  # or this generator and the error may keep each other
        raise ImageError(f"{name}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Return in words why an image was not read."""
    if isinstance(error, ImageError):
        return str(error)
    if isinstance(error, OSError):
        return error.strerror or one_line(error)
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS} pixels"
    return f"damaged image ({one_line(error)})"


def _stream(source: AnyPath | BinaryIO) -> contextlib.AbstractContextManager[BinaryIO]:
    """Open a regular file, and read the whole of other sources."""
    if source == STDIN:
        return io.BytesIO(read_at_most(sys.stdin.buffer, MAX_INPUT) if sys.stdin else b"")
    if not isinstance(source, AnyPath):
        return contextlib.nullcontext(source)
    return limited(open_file(source), MAX_PART)


def _opened(stream: BinaryIO) -> Image.Image:
    """Open an image. Raises ImageError with the reason if it is none, and the errors of Pillow."""
    try:
        return formats.open_listed(stream)
    except UnidentifiedImageError:
        stream.seek(0)
        start = stream.read(16)
        reason = formats.refusal(start) or "not an image that Pillow can read"
        raise ImageError(reason if start else "the file is empty") from None


def _check_size(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        given = f"{image.width} x {image.height} pixels"
        raise ImageError(f"{given}, more than --max-pixels {max_pixels}")


def _decoding(
    image: Image.Image, budget: Budget | None
) -> contextlib.AbstractContextManager[object]:
    return budget.decoding(image.size) if budget else contextlib.nullcontext()


def _seek(image: Image.Image, reading: Reading) -> None:
    """Go to the wanted frame. Raises ImageError if the file has no such frame."""
    if reading.frame is None:
        return
    count = getattr(image, "n_frames", 1) if image.format not in _COMPOSITES else 1
    if reading.frame > count:
        given = f"{count} frames" if count > 1 else "one frame"
        raise ImageError(f"it has {given}, and no --frame {reading.frame}")
    if count > 1:
        image.seek(reading.frame - 1)
        _check_size(image, reading.max_pixels)  # pages may have other sizes


def _frame_of(image: Image.Image, reading: Reading) -> int | None:
    """Return the number of the frame that was read, None if the file has one picture.

    It is asked after the frame was read, which damage to another one thus does not change.
    """
    if image.format in _COMPOSITES or (image.format in _ATTACHMENTS and not reading.frame):
        return None
    try:
        several = bool(getattr(image, "is_animated", False))
    except (OSError, *DECODE_ERRORS):
        several = True
    return reading.frame or 1 if several else None
