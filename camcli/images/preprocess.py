"""Convert decoded pixels to a network's input tensor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camcli.errors import ImageError
from camcli.images.geometry import Box, Crop, Pixels, Size

Sides: TypeAlias = int | tuple[int, int]
"""One side in pixels, or height and width."""

FITS = ("preset", "squash", "full")
"""The ways of fitting an image into a network's input; `preprocess` describes them."""

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
"""The filters of Pillow, which smooth when they reduce an image."""

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


def preprocess(pixels: Pixels, preset: Preset, fit: str = "preset") -> tuple[Any, Crop]:
    """Return the network's input (C,H,W), float32, and the crop of the image that it shows.

    `pixels` are (H,W,C). For one channel they may also be RGB, and their luminance (ITU-R BT.601)
    is taken. The fit `preset` resizes and crops as the preset tells.
    `squash` resizes the whole image to the input of the preset. `full` keeps the whole image and
    its aspect ratio and resizes the shorter side to that of the preset's input. Values are scaled
    and normalised as by torchvision's ImageClassification. Raises ImageError if the image is
    smaller than the crop, has another number of channels, or is too long and thin for an input of
    the whole of it.
    """
    import torch  # imported here, so that `camcli --help` can list FITS without it and OpenCV

    from camcli.images.opencv import cv2

    small, crop = _fit(_bands(pixels, preset.channels), preset, fit)
    scaled = cv2.LUT(small, _normalised(preset.mean, preset.std)).reshape(small.shape)
    return torch.from_numpy(scaled).permute(2, 0, 1), crop


@cache
def _normalised(mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """Return the normalised values (1,256,C) of 0 to 255 in each channel."""
    import torch

    levels = torch.arange(256, dtype=torch.float32).div_(255)[None, :, None]
    return (levels - torch.tensor(mean)).div_(torch.tensor(std)).numpy()


def _bands(pixels: Pixels, channels: int) -> Pixels:
    """Return pixels (H,W,C) with a number of channels: those given, or the luminance of RGB."""
    given = pixels.shape[2]
    if given != channels and (given, channels) != (3, 1):
        raise ImageError(f"the image has {given} channels, and the network takes {channels}")
    if given == channels:
        return pixels
    return np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None]


def _fit(pixels: Pixels, preset: Preset, fit: str) -> tuple[Pixels, Crop]:
    height, width = pixels.shape[:2]
    filter_, whole = Image.Resampling[preset.interpolation.upper()], Crop(0, 0, width, height)
    if fit == "squash":
        return _resized(pixels, preset.shape[::-1], filter_), whole
    sides = min(preset.shape) if fit == "full" else preset.resize
    size, crop = _size_after(sides, (width, height)), _pair(preset.crop)
    if fit == "preset" and crop:
        return _centre(pixels, size, crop, filter_)
    if not isinstance(sides, tuple):
        size = _limited(size, preset)
    if sides and max(size) > _MOST_ELONGATED * min(size):
        raise ImageError(
            f"{width}x{height} pixels: the whole image would be an input of {size[0]}x{size[1]}; "
            f"expected a longer side of at most {_MOST_ELONGATED} times the shorter one: use --fit "
            f"squash, or crop the image"
        )
    return _resized(pixels, size, filter_), whole


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
    pixels: Pixels, size: Size, filter_: Image.Resampling, box: Box | None = None
) -> Pixels:
    """Resize pixels (H,W,C), or their part in a box, to a size."""
    smaller = size[0] <= pixels.shape[1] and size[1] <= pixels.shape[0]
    if filter_ is Image.Resampling.BILINEAR and box is None and smaller:
        return _reduced(pixels, size)
    # Pillow has no images of any number of bands.
    parts = [pixels] if pixels.shape[2] == 3 else list(np.moveaxis(pixels, 2, 0))
    return np.dstack([np.asarray(Image.fromarray(x).resize(size, filter_, box)) for x in parts])


def _reduced(pixels: Pixels, size: Size) -> Pixels:
    """Reduce pixels (H,W,C) by a bilinear filter, as torchvision's `v2` reduces tensors.

    It takes a fourth of the time of Pillow. The weights have 16 bits, those of Pillow 22, so that
    some values are rounded to the next grey level. Enlarged images and torch's bicubic filter
    differ from Pillow's by more.
    """
    import torch
    from torch.nn.functional import interpolate

    height, width, channels = pixels.shape
    shape = 1, channels, height, width
    given = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
    given[0].permute(1, 2, 0).numpy()[...] = pixels  # torch warns of arrays that are read-only
    found = interpolate(given, size[::-1], mode="bilinear", antialias=True)
    return found[0].permute(1, 2, 0).numpy()


def _centre(
    pixels: Pixels, size: Size, crop: tuple[int, int], filter_: Image.Resampling
) -> tuple[Pixels, Crop]:
    """Resize pixels to `size` and return their centre of `crop` (height and width) pixels."""
    (height, width), (rows, columns) = pixels.shape[:2], crop
    if columns > size[0] or rows > size[1]:
        raise ImageError(f"{size[0]}x{size[1]} pixels: smaller than the crop of {columns}x{rows}")
    # torchvision rounds the corner of the crop to even.
    left, top = round((size[0] - columns) / 2.0), round((size[1] - rows) / 2.0)
    scale_x, scale_y = width / size[0], height / size[1]
    seen = Crop(left, top, left + columns, top + rows).resized(scale_x, scale_y)
    if max(size) <= 8 * min(size):
        whole = _resized(pixels, size, filter_)
        return whole[top : top + rows, left : left + columns], seen
    # torchvision resizes the whole image and crops it afterwards. A long thin image would become
    # huge, so only its crop is resized, with a margin for the support of the filter.
    margin_x, margin_y = (4 + int(4 / scale) for scale in (scale_x, scale_y))
    x0, y0 = max(0, left - margin_x), max(0, top - margin_y)
    x1, y1 = min(size[0], left + columns + margin_x), min(size[1], top + rows + margin_y)
    right, bottom = min(width, x1 * scale_x), min(height, y1 * scale_y)
    box = x0 * scale_x, y0 * scale_y, right, bottom
    part = _resized(pixels, (x1 - x0, y1 - y0), filter_, box)
    return part[top - y0 : top - y0 + rows, left - x0 : left - x0 + columns], seen


def _limited(size: Size, preset: Preset) -> Size:
    """Return a size with the limits `longest` and `multiple` of a preset applied."""
    scale = min(1.0, (preset.longest or max(size)) / max(size))
    width, height = (max(1, round(n * scale / preset.multiple)) * preset.multiple for n in size)
    return width, height
