"""Inputs of `explain`: tensors, arguments, paths or PIL images, as a model's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import torch
from PIL import Image
from torch import Tensor

from camcli.errors import ImageError
from camcli.images.decode import decode, to_rgb
from camcli.images.geometry import Crop, Pixels, Size
from camcli.images.preprocess import preprocess
from camcli.models.model import Model

Inputs: TypeAlias = Any
"""Tensor (N,3,H,W); a tuple, the model's arguments; or a PIL image, a path, or a list of these."""
Region: TypeAlias = Tensor | Sequence[float]
"""x0, y0, x1, y1 in input pixels, or one region for each image (N,4)."""


@dataclass(frozen=True)
class Photo:
    """An image as it was given, and the part of it that the network saw.

    `size` is the size of the original and `seen` the size of the network's input. Pixels are read
    again for each drawing, since the pixels of many photos would take too much memory.
    """

    given: Path | Image.Image
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
            raise ValueError(f"expected images (N,3,H,W), got a tensor {tuple(inputs.shape)}")
        return (inputs.to(model.device),), ()
    images = inputs if isinstance(inputs, list) else [inputs]
    if not images:
        raise ValueError("no images given")
    tensors, photos = zip(*(_prepared(model, image) for image in images), strict=True)
    return (torch.stack(tensors).to(model.device, model.dtype),), photos


def _prepared(model: Model, image: Any) -> tuple[Tensor, Photo]:
    if not isinstance(image, str | PathLike | Image.Image):
        raise TypeError(f"expected a tensor, a PIL image or a path, got {type(image).__name__}")
    given = image if isinstance(image, Image.Image) else Path(image)
    pixels = _pixels_of(given)
    tensor, crop = preprocess(pixels, model.preset)
    size, seen = (pixels.shape[1], pixels.shape[0]), (tensor.shape[2], tensor.shape[1])
    return tensor, Photo(given, crop, size, seen)


def _pixels_of(given: Path | Image.Image) -> Pixels:
    return decode(given) if isinstance(given, Path) else to_rgb(given)


def regions_of(region: Region | None, inputs: tuple[Any, ...]) -> Tensor | None:
    """Return a region for each image, (N,4), on the images' device."""
    if region is None:
        return None
    images = next(x for x in inputs if isinstance(x, Tensor) and x.ndim)
    return torch.as_tensor(region, device=images.device).float().expand(len(images), 4)
