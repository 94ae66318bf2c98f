"""Photos that were explained, to draw maps on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from PIL import Image

from camcli.errors import ImageError
from camcli.images.decode import decode, to_rgb
from camcli.images.geometry import Crop, Pixels, Size

Given: TypeAlias = Path | Image.Image


@dataclass(frozen=True)
class Photo:
    """An image as it was given, and the part of it that the network saw.

    `size` is the size of the original and `seen` the size of the network's input. Pixels are read
    again for each drawing, since the pixels of many photos would take too much memory.
    """

    given: Given
    crop: Crop
    size: Size
    seen: Size

    def pixels(self) -> Pixels:
        """Return the original, upright. Raises ImageError where the file has changed or is gone."""
        pixels = opened(self.given)
        if (pixels.shape[1], pixels.shape[0]) != self.size:
            raise ImageError(f"{self.given}: not the image that was explained: its size is another")
        return pixels


def opened(given: Given) -> Pixels:
    """Return the pixels of a file or a PIL image, upright. Raises ImageError."""
    return decode(given) if isinstance(given, Path) else to_rgb(given)
