"""Convert decoded pixels to a network's input tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from camcli.images.geometry import Crop, Pixels, Size

FITS = ("preset", "squash", "full")
"""The ways of fitting an image into a network's input; `preprocess` describes them."""


@dataclass(frozen=True)
class Preset:
    """The preprocessing of a model: resize the shorter side, crop the centre, scale, normalise.

    If `crop` is None, the whole image is kept. Its longer side is then limited to `longest` pixels
    and both sides are rounded to multiples of `multiple`. With `squash`, the whole image is resized
    to a square of `crop` pixels.
    """

    resize: int = 256
    crop: int | None = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    bicubic: bool = False
    multiple: int = 1
    longest: int | None = None
    squash: bool = False


def preprocess(pixels: Pixels, preset: Preset, fit: str = "preset") -> tuple[Any, Crop]:
    """Return the network's input (3,H,W), float32, and the crop of the image that it shows.

    The fit `preset` resizes the shorter side and crops the centre, as torchvision's presets do.
    `squash` resizes the whole image to the square of the preset. `full` keeps the whole image and
    its aspect ratio and resizes the shorter side to the crop of the preset. Values are scaled and
    normalised as by torchvision's ImageClassification.
    """
    import torch  # imported here, so that `camcli --help` can list FITS without it

    small, crop = _fit(pixels, preset, fit)
    scaled = torch.from_numpy(small.transpose(2, 0, 1).astype(np.float32)).div_(255)
    mean, std = (torch.tensor(values)[:, None, None] for values in (preset.mean, preset.std))
    return scaled.sub_(mean).div_(std), crop


def _fit(pixels: Pixels, preset: Preset, fit: str) -> tuple[Pixels, Crop]:
    height, width = pixels.shape[:2]
    filter_ = Image.Resampling.BICUBIC if preset.bicubic else Image.Resampling.BILINEAR
    image, whole = Image.fromarray(pixels), Crop(0, 0, width, height)
    square = preset.crop or preset.resize
    if fit == "squash" or (fit == "preset" and preset.squash):
        return np.asarray(image.resize((square, square), filter_)), whole
    shorter = preset.resize if fit == "preset" else square
    # torchvision rounds the longer side down.
    size_x, size_y = (max(shorter, shorter * n // min(height, width)) for n in (width, height))
    size = size_x, size_y
    if preset.crop is None or fit == "full":
        return np.asarray(image.resize(_limited(size, preset), filter_)), whole
    return _centre(image, size, preset.crop, filter_)


def _centre(
    image: Image.Image, size: Size, crop: int, filter_: Image.Resampling
) -> tuple[Pixels, Crop]:
    """Resize an image to `size` and return the square of `crop` pixels in its centre."""
    # torchvision rounds the corner of the crop to even.
    left, top = (round((side - crop) / 2.0) for side in size)
    scale_x, scale_y = image.width / size[0], image.height / size[1]
    # torchvision resizes the whole image and crops it afterwards. A long thin image would become
    # huge, so only its crop is resized, with a margin for the support of the filter.
    elongated = max(size) > 8 * min(size)
    margin_x, margin_y = (
        4 + int(4 / scale) if elongated else max(size) for scale in (scale_x, scale_y)
    )
    x0, y0 = max(0, left - margin_x), max(0, top - margin_y)
    x1, y1 = min(size[0], left + crop + margin_x), min(size[1], top + crop + margin_y)
    right, bottom = min(image.width, x1 * scale_x), min(image.height, y1 * scale_y)
    box = (x0 * scale_x, y0 * scale_y, right, bottom)
    part = np.asarray(image.resize((x1 - x0, y1 - y0), filter_, box=box))
    seen = Crop(left, top, left + crop, top + crop).resized(scale_x, scale_y)
    return part[top - y0 : top - y0 + crop, left - x0 : left - x0 + crop], seen


def _limited(size: Size, preset: Preset) -> Size:
    """Return a size with the limits `longest` and `multiple` of a preset applied."""
    scale = min(1.0, (preset.longest or max(size)) / max(size))
    width, height = (max(1, round(n * scale / preset.multiple)) * preset.multiple for n in size)
    return width, height
