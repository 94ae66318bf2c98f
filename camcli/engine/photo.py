"""Photos that were explained, to draw maps on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from PIL import Image

from camcli.errors import ImageError
from camcli.images.decode import decode, to_rgb
from camcli.images.geometry import Crop, Pixels

Given: TypeAlias = Path | Image.Image


@dataclass(frozen=True)
class Photo:
    """An image as it was given, and the part of it that the network saw.

    `size` is the original's, `seen` that of the network's input, both width and height. Pixels are
    read again when they are asked for: those of many photos at once would take more memory than all
    else.
    """

    given: Given
    crop: Crop
    size: tuple[int, int]
    seen: tuple[int, int]

    def pixels(self) -> Pixels:
        """The original, upright. Raises ImageError where a file is no longer the one explained."""
        pixels = opened(self.given)
        if (pixels.shape[1], pixels.shape[0]) != self.size:
            raise ImageError(f"{self.given}: not the image that was explained: its size is another")
        return pixels


def opened(given: Given) -> Pixels:
    """The pixels of a file or a Pillow image, upright. Raises ImageError."""
    return decode(given) if isinstance(given, Path) else to_rgb(given)
