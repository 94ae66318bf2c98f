"""Encode pictures as files: PNG, JPEG and WebP.

PNG is encoded by ISA-L where the package `isal`, an extra, is installed, and else by OpenCV, which
takes four times as long. The levels 0 to 2 of ISA-L give the same bytes on every x86-64 processor
with SSE4.2, of AVX2 and AVX-512 too; those of level 3 depend on AVX2. On ARM its bytes are others,
so it is not used there: one version of it gives the same bytes on every machine that uses it.
"""

from __future__ import annotations

import platform
import struct
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from camcli.errors import CamcliError
from camcli.images.geometry import Pixels
from camcli.images.opencv import cv2

isal_zlib: Any = None
if platform.machine().lower() in ("x86_64", "amd64"):
    with suppress(ImportError):
        from isal import isal_zlib

_LEVEL = 1
"""The effort of ISA-L. Level 2 makes files 2 % smaller in 4 % more time."""
_UP = 2
"""The filter of PNG that stores the difference from the row above. On overlays, the difference from
the pixel on the left takes 3 % more bytes."""
_LONGEST = {"jpg": 65_500, "webp": 16_383}
"""The longest side that a format can have in pixels."""

# Photos have few repeated byte sequences. Searching for them makes files a tenth smaller but takes
# two and a half times as long. This strategy finds only runs of one value, which plots contain.
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # since OpenCV 4.12
    _PNG += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB]

# With the usual half resolution of colours, the edge of the heat is off by 71 of 255, not by 16.
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95]
_JPEG += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


def package_of(picture_format: str) -> str:
    """Return the package that encodes a format, one of FORMATS."""
    if picture_format == "webp":
        return "pillow"
    return "isal" if picture_format == "png" and isal_zlib else "opencv-python"


def encoded(pixels: Pixels, picture_format: str) -> bytes:
    """Encode a picture (H,W,3) in one of FORMATS: PNG and WebP without loss, JPEG of quality 95.

    Raises CamcliError for a picture that is too large for the format.
    """
    height, width = pixels.shape[:2]
    if max(height, width) > _LONGEST.get(picture_format, 2**31 - 1):
        raise CamcliError(
            f"a picture of {width}x{height} pixels: {picture_format} has at most "
            f"{_LONGEST[picture_format]} pixels a side: use --format png"
        )
    if picture_format == "jpg":
        return _by_opencv(pixels, ".jpg", _JPEG)
    return png(pixels) if picture_format == "png" else _webp(pixels)


def png(pixels: Pixels) -> bytes:
    """Encode a picture (H,W,3) as a PNG file."""
    if isal_zlib is None:
        return _by_opencv(pixels, ".png", _PNG)
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    parts = (
        (b"IHDR", header),
        (b"IDAT", isal_zlib.compress(_filtered(pixels), _LEVEL)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _filtered(pixels: Pixels) -> Pixels:
    """Return the rows (H,1+3W) of a PNG: the filter, then differences from the row above."""
    rows = pixels.reshape(len(pixels), -1)
    found = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
    found[:, 0] = _UP
    found[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=found[1:, 1:])  # modulo 256
    return found


def _chunk(name: bytes, data: bytes) -> bytes:
    check = isal_zlib.crc32(data, isal_zlib.crc32(name))
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)


def _by_opencv(pixels: Pixels, ending: str, options: list[int]) -> bytes:
    done, data = cv2.imencode(ending, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise CamcliError(f"OpenCV cannot encode a {ending} file of shape {pixels.shape}")
    return data.tobytes()


def _webp(pixels: Pixels) -> bytes:
    """Encode without loss and with the least effort.

    With loss, WebP has half the resolution of colours, and more effort takes 20 times as long.
    """
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, quality=0, method=0)
    return buffer.getvalue()
