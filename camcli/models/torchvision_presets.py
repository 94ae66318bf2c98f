"""The preprocessing of torchvision's published weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from camcli.images.preprocess import Preset
from camcli.models import torchvision

_STRIDE = 32
"""Detectors pad their images to multiples of this. Without padding, maps fit the image exactly."""


def preset_of(entry: Any) -> Preset:
    """Return the preprocessing of a published weights entry."""
    transform = entry.transforms()
    if not hasattr(transform, "resize_size"):  # detection: see `preset_for`
        return Preset(crop=None, mean=(0, 0, 0), std=(1, 1, 1))
    if not hasattr(transform, "crop_size"):  # segmentation takes the whole image
        return Preset(transform.resize_size[0], None, tuple(transform.mean), tuple(transform.std))
    return Preset(
        resize=transform.resize_size[0],
        crop=transform.crop_size[0],
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        bicubic=transform.interpolation.value == "bicubic",
    )


def preset_for(module: nn.Module, preset: Preset) -> Preset:
    """Return a preset with the input size that the network requires.

    A detector resizes and normalises by itself. It gets images of the size that it would make.
    """
    own = getattr(module, "transform", None)
    if isinstance(own, torchvision.models.detection.transform.GeneralizedRCNNTransform):
        if own.fixed_size is not None:
            return replace(preset, resize=own.fixed_size[0])
        return replace(preset, resize=own.min_size[-1], multiple=_STRIDE, longest=own.max_size)
    size = getattr(module, "image_size", None)
    return preset if size in (None, preset.crop) else replace(preset, resize=int(size), crop=size)


def prepare_detector(module: nn.Module, *, zero_eps: bool) -> None:
    """Make a detector keep images of the size of `preset_for`, in place.

    `zero_eps` sets the epsilon of its batch normalisations to 0.
    """
    transform = module.transform
    assert not isinstance(transform, Tensor)
    if transform.fixed_size is None:
        transform.max_size -= transform.max_size % _STRIDE
    for part in module.modules():
        if zero_eps and isinstance(part, nn.BatchNorm2d):
            part.eps = 0.0
