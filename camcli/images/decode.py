"""Decode image files to RGB arrays, upright, with damage reported as one line."""

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
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from camcli.errors import ImageError, one_line
from camcli.images.geometry import Pixels, Size
from camcli.images.store import Place, Remote

STDIN = Path("-")


DAMAGE = (ValueError, SyntaxError, EOFError, RuntimeError, MemoryError, struct.error)
"""What Pillow's readers raise on damaged files, besides OSError."""


MAX_PIXELS = 178_956_970
"""The largest image that is read, which is where Pillow stops by itself."""


_TURNED = (5, 6, 7, 8)
"""The EXIF orientations that swap width and height."""


def fetched(path: Place) -> Place:
    """A store's file with its content, so that it is asked for once; a local one as it is.

    Raises ImageError.
    """
    if not isinstance(path, Remote):
        return path
    try:
        return path.fetched()
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}") from None


def decode(source: Place | BinaryIO, max_pixels: int = MAX_PIXELS) -> Pixels:
    """An image file as RGB, upright (EXIF orientation applied), transparency laid on white.

    More than `max_pixels` are refused before they take memory. Raises ImageError with one line for
    anything that is not a whole image.
    """
    with _opened(source, max_pixels) as image:
        return upright(image)


def thumbnail(file: Path, longest: int) -> tuple[Pixels, Size]:
    """An image file as `decode` gives it but small, no side above `longest`, and its own size.

    JPEGs are reduced as they are decoded, which takes a fraction of the time. Raises ImageError.
    """
    with _opened(file, MAX_PIXELS) as image:
        width, height = image.size
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in _TURNED
        image.draft(None, (longest, longest))
        small = Image.fromarray(upright(image))
    small.thumbnail((longest, longest), reducing_gap=2.0)
    return np.asarray(small), (height, width) if turned else (width, height)


@contextlib.contextmanager
def _opened(source: Place | BinaryIO, max_pixels: int) -> Iterator[Image.Image]:
    """Pillow's image of a file; what goes wrong inside becomes an ImageError with one line."""
    name = source if isinstance(source, Place) and source != STDIN else "standard input"
    if source == STDIN:
        source = io.BytesIO(sys.stdin.buffer.read() if sys.stdin else b"")
    if isinstance(source, Remote):
        source = io.BytesIO(fetched(source).read_bytes())
    try:
        with Image.open(source) as image:
            if image.width * image.height > max_pixels:
                given = f"{image.width} x {image.height} pixels"
                raise ImageError(f"{name}: {given}, more than --max-pixels {max_pixels}")
            yield image
    except UnidentifiedImageError:
        size = source.stat().st_size if isinstance(source, Path) else source.seek(0, os.SEEK_END)
        empty = size == 0
        reason = "the file is empty" if empty else "not an image that Pillow can read"
        raise ImageError(f"{name}: {reason}") from None
    except OSError as error:
        raise ImageError(f"{name}: {error.strerror or one_line(error)}") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: more pixels than {MAX_PIXELS}, the most that are read") from None
    except DAMAGE as error:
        raise ImageError(f"{name}: damaged image ({one_line(error)})") from None


def upright(image: Image.Image) -> Pixels:
    """A Pillow image as RGB, with its EXIF orientation applied and transparency laid on white."""
    return np.asarray(_rgb(ImageOps.exif_transpose(image)))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        # Pillow would clip these at 255. Whole numbers are taken as 16-bit; floats as the first
        # of the usual ranges that holds them.
        values = np.nan_to_num(np.asarray(image, np.float32))
        ranges = (65535,) if image.mode.startswith("I") else (1, 255, 65535)
        white = next((top for top in ranges if values.max() <= top), ranges[-1])
        return Image.fromarray((values / white * 255).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        above = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")
    return image.convert("RGB")
