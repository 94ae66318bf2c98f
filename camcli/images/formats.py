"""The file formats that are read as images. A new format of Pillow needs a row in one of the lists.

A format is read if its file alone holds the pixels, and Pillow decodes them in this process and
with their values.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError, _imaging

FORMATS = (
    *("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM"),  # those that Pillow has without its other readers
    *("WEBP", "TIFF", "AVIF", "JPEG2000", "PSD", "TGA", "ICO", "ICNS", "CUR", "DDS", "QOI"),
    *("BLP", "DCX", "FLI", "FTEX", "GBR", "IM", "IMT", "MCIDAS", "MSP", "PCD", "PCX", "PIXAR"),
    *("SGI", "SPIDER", "SUN", "XBM", "XPM", "XVTHUMB"),
)
"""The formats to read, by their names in Pillow."""

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "BUFR": "measurements of the weather",
        "EPS": "a program in PostScript",
        "FITS": "numbers whose scale Pillow does not read",
        "FPX": "a container that another package reads",
        "GRIB": "measurements of the weather",
        "HDF5": "arrays",
        "IPTC": "a container of files",
        "MIC": "a container that another package reads",
        "MPEG": "a video",
        "WMF": "drawing commands of Windows",
    }
)
"""The formats that Pillow opens and that are not read, with what such a file holds."""

_PARTS = ("MPO",)
"""The formats that the readers of others open: an MPO file is a JPEG file."""


def suffixes() -> frozenset[str]:
    """Return the suffixes of image files, in lower case, by which folders are searched."""
    read = (*FORMATS, *_PARTS)
    return frozenset(end for end, kind in Image.registered_extensions().items() if kind in read)


def open_listed(stream: BinaryIO) -> Image.Image:
    """Open an image of one of FORMATS. Raises UnidentifiedImageError, as Pillow does."""
    Image.preinit()
    with suppress(UnidentifiedImageError):
        return Image.open(stream, formats=_known())
    Image.init()
    return Image.open(stream, formats=_known())


def _known() -> list[str]:
    """Return the FORMATS whose readers are loaded. An older Pillow does not have all of them."""
    return [name for name in FORMATS if name in Image.OPEN]


def silence_libtiff() -> None:
    """Let libtiff print nothing on standard error, as it does for each damaged part of a file.

    Pillow raises an error for such a file. The setting is that of the whole process, so commands
    make it and the library does not. Does nothing where Pillow holds a libtiff without a symbol.
    """
    with suppress(AttributeError, OSError):
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            set_handler = getattr(library, name)
            set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_handler(None)


def refusal(prefix: bytes) -> str | None:
    """Return why a file with these first bytes is not read, if Pillow has another reader for it."""
    for name, (_, accept) in Image.OPEN.items():
        if name not in FORMATS and accept and accept(prefix) is True:
            held = REFUSED.get(name, "a format of another package")
            return f"{name} is not read: it holds {held}, not an image"
    return None
