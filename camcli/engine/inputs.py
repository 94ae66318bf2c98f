"""Inputs of `explain`: tensors, arguments, paths, PIL images or arrays, as a model's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from camcli.errors import ImageError
from camcli.images.convert import to_bands, to_rgb
from camcli.images.decode import decode, read
from camcli.images.geometry import Crop, Pixels, Size
from camcli.images.preprocess import preprocess
from camcli.models.model import Model

Inputs: TypeAlias = Any
"""Tensor (N,C,H,W); a tuple, the model's arguments; or a PIL image, an array (H,W,3) of uint8, a
path, or a list of these."""
Region: TypeAlias = Tensor | Sequence[float]
"""x0, y0, x1, y1 in input pixels, or one region for each image (N,4)."""

Given: TypeAlias = Path | Image.Image | Pixels
"""An image as it was given."""


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
        pixels = _pixels_of(self.given)
        if (pixels.shape[1], pixels.shape[0]) != self.size:
            raise ImageError(f"{self.given}: not the image that was explained: its size is another")
        return pixels


def prepare_inputs(model: Model, inputs: Inputs) -> tuple[tuple[Any, ...], tuple[Photo, ...]]:
    """Return the model's arguments, on its device, and the photos that they were made from, if any.

    Raises ValueError and TypeError for misuse, and ImageError for a file that cannot be read.
    """
    if isinstance(inputs, tuple):
        return tuple(x.to(model.device) if isinstance(x, Tensor) else x for x in inputs), ()
    if isinstance(inputs, Tensor):
        if inputs.ndim != 4 or not len(inputs):
            raise ValueError(f"expected images (N,C,H,W), got a tensor {tuple(inputs.shape)}")
        return (inputs.to(model.device),), ()
    images = inputs if isinstance(inputs, list) else [inputs]
    if not images:
        raise ValueError("no images given")
    tensors, photos = zip(*(_prepared(model, image) for image in images), strict=True)
    return (torch.stack(tensors).to(model.device, model.dtype),), photos


def _prepared(model: Model, image: Any) -> tuple[Tensor, Photo]:
    given = _checked(image)
    pixels, bands = _read(given, model.preset.channels)
    tensor, crop = preprocess(bands, model.preset)
    size, seen = (pixels.shape[1], pixels.shape[0]), (tensor.shape[2], tensor.shape[1])
    return tensor, Photo(given, crop, size, seen)


def _checked(image: Any) -> Given:
    """Return an image in one of the types of Given. Raises ValueError and TypeError."""
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.dtype != np.uint8:
            given = f"{tuple(image.shape)} of {image.dtype}"
            raise ValueError(f"expected an array (H,W,3) of uint8, got {given}")
        return image
    if not isinstance(image, str | PathLike):
        expected = "a tensor, an array, a PIL image or a path"
        raise TypeError(f"expected {expected}, got {type(image).__name__}")
    return Path(image)


def _pixels_of(given: Given) -> Pixels:
    """Return an image as RGB, (H,W,3). An array of one or more other channels is shown in grey."""
    if isinstance(given, np.ndarray):
        grey = given.mean(axis=2, keepdims=True).astype(np.uint8)
        return given if given.shape[2] == 3 else np.repeat(grey, 3, axis=2)
    return decode(given) if isinstance(given, Path) else to_rgb(given)


def _read(given: Given, channels: int) -> tuple[Pixels, Pixels]:
    """Return an image as RGB, and the bands for a network of a number of channels."""
    if isinstance(given, Path):
        picture = read(given, channels=channels)
        return picture.pixels, picture.bands
    return _pixels_of(given), given if isinstance(given, np.ndarray) else to_bands(given, channels)


def regions_of(region: Region | None, inputs: tuple[Any, ...]) -> Tensor | None:
    """Return a region for each image, (N,4), on the images' device."""
    if region is None:
        return None
    images = next(x for x in inputs if isinstance(x, Tensor) and x.ndim)
    return torch.as_tensor(region, device=images.device).float().expand(len(images), 4)


def noise_for(model: Model) -> Tensor:
    """Return an image of noise (1,C,H,W), of the preset's size."""
    shape = 1, model.preset.channels, *model.preset.shape
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return noise.to(model.device, model.dtype)
