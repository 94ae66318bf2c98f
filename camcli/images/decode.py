"""Decode image files to upright RGB arrays. Damaged files raise ImageError with one line."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, ImageSequence, UnidentifiedImageError

from camcli.errors import ImageError, one_line
from camcli.images.geometry import Pixels, Size
from camcli.images.store import AnyPath, RemotePath

STDIN = Path("-")
"""The path that stands for standard input."""

DECODE_ERRORS = (ValueError, SyntaxError, EOFError, RuntimeError, MemoryError, struct.error)
"""The exceptions besides OSError that Pillow's readers raise on damaged files."""

MAX_PIXELS = 178_956_970
"""The largest image that is read, in pixels. Pillow refuses larger ones by itself."""

_TRANSPOSED = (5, 6, 7, 8)
"""The EXIF orientations that swap width and height."""


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
    """Read an image file as RGB. Apply its EXIF orientation and composite transparency on white.

    An image of more than `max_pixels` pixels is refused before memory is allocated for it. Raises
    ImageError for a file that is not a complete image.
    """
    with _open(source, max_pixels) as image:
        return to_rgb(image)


def decode_bands(source: AnyPath, channels: int, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Read an image file for a network of a number of input channels, as (H,W,C), upright.

    One and three channels are read as RGB, as `decode` does. Other numbers are the bands of the
    file, such as RGBA or CMYK, or its grey pages. Raises ImageError if the file has another number.
    """
    if channels in (1, 3):
        return decode(source, max_pixels)
    with _open(source, max_pixels) as image:
        try:
            return to_bands(image, channels)
        except ImageError as error:
            raise ImageError(f"{source}: {error}") from None


_BANDS = ("L", "LA", "RGB", "RGBA", "CMYK")
"""The modes of Pillow whose bands are channels of 8 bits."""


def thumbnail(file: Path, longest: int) -> tuple[Pixels, Size]:
    """Read an image file as `decode` does and reduce its longer side to at most `longest` pixels.

    Return the pixels and the size of the original. JPEGs are reduced while they are decoded, which
    takes a fraction of the time. Raises ImageError.
    """
    with _open(file, MAX_PIXELS) as image:
        width, height = image.size
        transposed = image.getexif().get(ExifTags.Base.Orientation, 1) in _TRANSPOSED
        image.draft(None, (longest, longest))
        small = Image.fromarray(to_rgb(image))
    small.thumbnail((longest, longest), reducing_gap=2.0)
    return np.asarray(small), (height, width) if transposed else (width, height)


@contextlib.contextmanager
def _open(source: AnyPath | BinaryIO, max_pixels: int) -> Iterator[Image.Image]:
    """Open a file with Pillow. Errors inside the context are raised as ImageError with one line."""
    name = source if isinstance(source, AnyPath) and source != STDIN else "standard input"
    if source == STDIN:
        source = io.BytesIO(sys.stdin.buffer.read() if sys.stdin else b"")
    if isinstance(source, RemotePath):
        source = io.BytesIO(fetch(source).read_bytes())
    try:
        with Image.open(source) as image:
            if image.width * image.height > max_pixels:
                given = f"{image.width} x {image.height} pixels"
                raise ImageError(f"{name}: {given}, more than --max-pixels {max_pixels}")
            yield image
    except UnidentifiedImageError:
        length = source.stat().st_size if isinstance(source, Path) else source.seek(0, os.SEEK_END)
        reason = "the file is empty" if length == 0 else "not an image that Pillow can read"
        raise ImageError(f"{name}: {reason}") from None
    except OSError as error:
        raise ImageError(f"{name}: {error.strerror or one_line(error)}") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: more than {MAX_PIXELS} pixels") from None
    except DECODE_ERRORS as error:
        raise ImageError(f"{name}: damaged image ({one_line(error)})") from None


def to_rgb(image: Image.Image) -> Pixels:
    """Convert a Pillow image as `decode` does."""
    return np.asarray(_converted(ImageOps.exif_transpose(image)))


def to_bands(image: Image.Image, channels: int) -> Pixels:
    """Convert a Pillow image as `decode_bands` does. Raises ImageError."""
    if channels in (1, 3):
        return to_rgb(image)
    pages = [ImageOps.exif_transpose(page) for page in ImageSequence.Iterator(image)]
    found = [np.asarray(page) for page in pages if page.mode in _BANDS]
    stacked = np.dstack(found) if len({page.shape[:2] for page in found}) == 1 else None
    if stacked is None or stacked.shape[2] != channels:
        bands = f"{len(pages)} pages" if len(pages) > 1 else f"{len(pages[0].getbands())} channels"
        raise ImageError(f"it has {bands}, and the network takes {channels} channels")
    return stacked


def _converted(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        # Pillow would clip these at 255. Integers are taken as 16-bit, floats as the smallest of
        # the usual ranges that contains them.
        values = np.nan_to_num(np.asarray(image, np.float32))
        ranges = (65535,) if image.mode.startswith("I") else (1, 255, 65535)
        white = next((top for top in ranges if values.max() <= top), ranges[-1])
        return Image.fromarray((values / white * 255).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
