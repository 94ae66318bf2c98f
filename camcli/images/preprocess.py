"""Turn decoded pixels into a network's input tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from camcli.images.geometry import Crop, Pixels

FITS = ("preset", "squash", "full")


@dataclass(frozen=True)
class Preset:
    """A model's own preprocessing: resize the shorter side, cut the centre, scale, normalise.

    Without `crop` the whole image is kept; its sides are then multiples of `multiple`, and at most
    `longest`, pixels. With `squash` the whole image is made a square of `crop`.
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
    """The network's input, a tensor (3,h,w), and the part of the image that it shows.

    `preset` resizes the shorter side and cuts the centre, as torchvision's presets do; `squash`
    brings the whole image to the preset's square; `full` keeps the whole image and its shape, the
    shorter side at the preset's size. Values as after torchvision's ImageClassification.
    """
    import torch  # here, so that a command's --help can name FITS at once

    small, crop = _fitted(pixels, preset, fit)
    scaled = torch.from_numpy(small.transpose(2, 0, 1).astype(np.float32)).div_(255)
    mean, std = (torch.tensor(values)[:, None, None] for values in (preset.mean, preset.std))
    return scaled.sub_(mean).div_(std), crop


def _fitted(pixels: Pixels, preset: Preset, fit: str) -> tuple[Pixels, Crop]:
    height, width = pixels.shape[:2]
    filter_ = Image.Resampling.BICUBIC if preset.bicubic else Image.Resampling.BILINEAR
    image, whole = Image.fromarray(pixels), Crop(0, 0, width, height)
    square = preset.crop or preset.resize
    if fit == "squash" or (fit == "preset" and preset.squash):
        return np.asarray(image.resize((square, square), filter_)), whole
    shorter = preset.resize if fit == "preset" else square
    # torchvision rounds down the longer side and rounds the centre's corner to even.
    size_x, size_y = (max(shorter, shorter * n // min(height, width)) for n in (width, height))
    if preset.crop is None or fit == "full":
        size = _within((size_x, size_y), preset)
        return np.asarray(image.resize(size, filter_)), whole
    left, top = round((size_x - preset.crop) / 2.0), round((size_y - preset.crop) / 2.0)
    scale_x, scale_y = width / size_x, height / size_y
    # The whole is resized and then cut, as torchvision does. Of a long thin image, which would grow
    # without bound, only the part of the crop is, with a margin that the filter's edge may spoil.
    slender = max(size_x, size_y) > 8 * shorter
    margin_x, margin_y = (
        4 + int(4 / scale) if slender else max(size_x, size_y) for scale in (scale_x, scale_y)
    )
    x0, y0 = max(0, left - margin_x), max(0, top - margin_y)
    x1 = min(size_x, left + preset.crop + margin_x)
    y1 = min(size_y, top + preset.crop + margin_y)
    box = (x0 * scale_x, y0 * scale_y, min(width, x1 * scale_x), min(height, y1 * scale_y))
    part = np.asarray(image.resize((x1 - x0, y1 - y0), filter_, box=box))
    small = part[top - y0 : top - y0 + preset.crop, left - x0 : left - x0 + preset.crop]
    seen = Crop(
        round(left * scale_x),
        round(top * scale_y),
        max(round(left * scale_x) + 1, round((left + preset.crop) * scale_x)),
        max(round(top * scale_y) + 1, round((top + preset.crop) * scale_y)),
    )
    return small, seen


def _within(size: tuple[int, int], preset: Preset) -> tuple[int, int]:
    """The size, made smaller and even as a preset asks for."""
    scale = min(1.0, (preset.longest or max(size)) / max(size))
    width, height = (max(1, round(n * scale / preset.multiple)) * preset.multiple for n in size)
    return width, height
