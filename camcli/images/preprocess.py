"""Convert decoded pixels to a network's input tensor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camcli.errors import ImageError
from camcli.images.convert import Bands
from camcli.images.geometry import Box, Crop, Pixels, Size

Sides: TypeAlias = int | tuple[int, int]
"""One side in pixels, or height and width."""

FITS = ("preset", "squash", "full")
"""The ways of fitting an image into a network's input; `preprocess` describes them."""

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
"""The filters of Pillow, which smooth when they reduce an image."""

_STEADY = (Image.Resampling.BILINEAR, Image.Resampling.HAMMING)
"""Filters of positive weights that change little with the place. Pillow rounds the place of a box
to float32, and may run its two passes in another order for it. Values between the passes are
rounded, and then differ by at most one grey level, and so do their means in the second pass. Of the
weights of `box` some would appear or vanish, and those of `bicubic` and `lanczos` sum up to more
than one without their signs."""

_LONGEST_SIDE = 8192
"""The longest side of an input in pixels. A square of it takes 0.8 GB."""
_MOST_ELONGATED = 20
"""How many times longer than its shorter side an input of a whole image may be. Inputs of longer
images would take gigabytes."""


@dataclass(frozen=True)
class Preset:
    """The preprocessing of a model, in the terms of torchvision's transforms.

    - `resize`: the shorter side after resizing, or height and width; None keeps the size.
    - `crop`: the side of the square in the centre that is kept, or its height and width. If it is
      None, the whole image is kept. Its longer side is then limited to `longest` pixels and both
      sides are rounded to multiples of `multiple`, unless `resize` gives height and width.
    - `mean`, `std`: subtracted from and divided into values between 0 and 1, one for each channel
      of the network's input.
    - `interpolation`: one of INTERPOLATIONS.

    Raises ValueError for values that fit no image.
    """

    resize: Sides | None = 256
    crop: Sides | None = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    multiple: int = 1
    longest: int | None = None

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std):
            raise ValueError(
                f"mean has {len(self.mean)} values and std {len(self.std)}: expected one for each "
                f"channel"
            )
        if not all(value > 0 for value in self.std):
            raise ValueError(f"std {self.std}: expected values above 0")
        if self.interpolation not in INTERPOLATIONS:
            known = ", ".join(INTERPOLATIONS)
            raise ValueError(f"interpolation '{self.interpolation}': expected one of {known}")
        resize, crop = (_pair(sides) for sides in (self.resize, self.crop))
        if not all(1 <= side <= _LONGEST_SIDE for side in (*(resize or ()), *(crop or ()))):
            raise ValueError(
                f"resize {self.resize} and crop {self.crop}: expected 1 to {_LONGEST_SIDE} pixels"
            )
        if resize and crop and (crop[0] > resize[0] or crop[1] > resize[1]):
            given, room = sides_text(self.crop), sides_text(self.resize)
            raise ValueError(
                f"crop {given} is larger than resize {room}: expected another crop, too"
            )

    @property
    def channels(self) -> int:
        """The number of channels of the network's input."""
        return len(self.mean)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the network's input; 224 where they follow from the image alone."""
        return _pair(self.crop) or _pair(self.resize) or (224, 224)

    @property
    def mean_colour(self) -> tuple[float, ...]:
        """The mean colour of photos in the input's units, (C,): 0 where it is subtracted.

        Where nothing is subtracted, it is ImageNet's mean, or the mean of that for other channels.
        """
        photos = Preset.mean if self.channels == 3 else (sum(Preset.mean) / 3,) * self.channels
        mean = self.mean if any(self.mean) else photos
        return tuple((m - own) / std for m, own, std in zip(mean, self.mean, self.std, strict=True))


def sides_text(sides: Sides | None) -> str:
    """Return sides as text: `224`, `224x320` (height and width), or `none`."""
    return "x".join(map(str, sides)) if isinstance(sides, tuple) else str(sides or "none")


def _pair(sides: Sides | None) -> tuple[int, int] | None:
    return (sides, sides) if isinstance(sides, int) else sides


def preprocess(pixels: Bands, preset: Preset, fit: str = "preset") -> tuple[Any, Crop]:
    """Return the network's input (C,H,W), float32, and the crop of the image that it shows.

    `pixels` are (H,W,C), or a Pillow image in RGB. For one channel they may also be RGB, and their
    luminance (ITU-R BT.601) is taken. The fit `preset` resizes and crops as the preset tells.
    `squash` resizes the whole image to the input of the preset. `full` keeps the whole image and
    its aspect ratio and resizes the shorter side to that of the preset's input. Values are scaled
    and normalised as by torchvision's ImageClassification. Raises ImageError if the image is
    smaller than the crop, has another number of channels, or is too long and thin for an input of
    the whole of it.
    """
    import torch  # imported here, so that `camcli --help` can list FITS without it and OpenCV

    from camcli.images.opencv import cv2

    small, crop = _fit(_images(pixels, preset.channels), preset, fit)
    scaled = cv2.LUT(small, _normalised(preset.mean, preset.std)).reshape(small.shape)
    return torch.from_numpy(scaled).permute(2, 0, 1), crop


@cache
def _normalised(mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """Return the normalised values (1,256,C) of 0 to 255 in each channel."""
    import torch

    levels = torch.arange(256, dtype=torch.float32).div_(255)[None, :, None]
    return (levels - torch.tensor(mean)).div_(torch.tensor(std)).numpy()


def _images(pixels: Bands, channels: int) -> list[Image.Image]:
    """Return pixels as one image in RGB, or one for each band: Pillow has none of C bands."""
    given = 3 if isinstance(pixels, Image.Image) else pixels.shape[2]
    if given != channels and (given, channels) != (3, 1):
        raise ImageError(f"the image has {given} channels, and the network takes {channels}")
    if given != 3:
        return [Image.fromarray(band) for band in np.moveaxis(np.asarray(pixels), 2, 0)]
    colours = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    return [colours if channels == 3 else colours.convert("L")]


def _fit(images: list[Image.Image], preset: Preset, fit: str) -> tuple[Pixels, Crop]:
    width, height = images[0].size
    filter_, whole = Image.Resampling[preset.interpolation.upper()], Crop(0, 0, width, height)
    if fit == "squash":
        return _resized(images, preset.shape[::-1], filter_), whole
    sides = min(preset.shape) if fit == "full" else preset.resize
    size, crop = _size_after(sides, (width, height)), _pair(preset.crop)
    if fit == "preset" and crop:
        return _centre(images, size, crop, filter_)
    if not isinstance(sides, tuple):
        size = _limited(size, preset)
    if sides and max(size) > _MOST_ELONGATED * min(size):
        raise ImageError(
            f"{width}x{height} pixels: the whole image would be an input of {size[0]}x{size[1]}; "
            f"expected a longer side of at most {_MOST_ELONGATED} times the shorter one: use --fit "
            f"squash, or crop the image"
        )
    return _resized(images, size, filter_), whole


def _size_after(sides: Sides | None, size: Size) -> Size:
    """Return the size of an image after it is resized to `sides`."""
    if sides is None:
        return size
    if isinstance(sides, tuple):
        return sides[1], sides[0]
    # torchvision rounds the longer side down.
    width, height = (max(sides, sides * n // min(size)) for n in size)
    return width, height


def _resized(
    images: list[Image.Image], size: Size, filter_: Image.Resampling, box: Box | None = None
) -> Pixels:
    """Resize images, or their part in a box, to a size, and return all of their bands (H,W,C)."""
    return np.dstack([np.asarray(image.resize(size, filter_, box=box)) for image in images])


def _centre(
    images: list[Image.Image], size: Size, crop: tuple[int, int], filter_: Image.Resampling
) -> tuple[Pixels, Crop]:
    """Resize an image to `size` and return its centre of `crop` (height and width) pixels."""
    (width, height), (rows, columns) = images[0].size, crop
    if columns > size[0] or rows > size[1]:
        raise ImageError(f"{size[0]}x{size[1]} pixels: smaller than the crop of {columns}x{rows}")
    # torchvision rounds the corner of the crop to even.
    left, top = round((size[0] - columns) / 2.0), round((size[1] - rows) / 2.0)
    scale_x, scale_y = width / size[0], height / size[1]
    # torchvision resizes the whole image and crops it afterwards. A long thin image would become
    # huge, so only its crop is resized, with a margin for the support of the filter.
    elongated = max(size) > 8 * min(size)
    margin_x, margin_y = (
        4 + int(4 / scale) if elongated else max(size) for scale in (scale_x, scale_y)
    )
    if filter_ in _STEADY and height < width <= _LONGEST_SIDE and not elongated:
        margin_x = 0  # Pillow also reads pixels beside a box
    x0, y0 = max(0, left - margin_x), max(0, top - margin_y)
    x1, y1 = min(size[0], left + columns + margin_x), min(size[1], top + rows + margin_y)
    right, bottom = min(width, x1 * scale_x), min(height, y1 * scale_y)
    part = _resized(
        images, (x1 - x0, y1 - y0), filter_, (x0 * scale_x, y0 * scale_y, right, bottom)
    )
    seen = Crop(left, top, left + columns, top + rows).resized(scale_x, scale_y)
    return part[top - y0 : top - y0 + rows, left - x0 : left - x0 + columns], seen


def _limited(size: Size, preset: Preset) -> Size:
    """Return a size with the limits `longest` and `multiple` of a preset applied."""
    scale = min(1.0, (preset.longest or max(size)) / max(size))
    width, height = (max(1, round(n * scale / preset.multiple)) * preset.multiple for n in size)
    return width, height
