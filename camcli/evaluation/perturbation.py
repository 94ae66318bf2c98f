"""Images seen through a map, and images of which a map's pixels are missing."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate

from camcli.images.preprocess import Preset


def flattened(values: Tensor, gradients: str) -> Tensor:
    """Maps (N,h,w) as they are; images of gradients (N,3,H,W) as maps (N,H,W), colours added up.

    `gradients`: `abs`, or `positive` for the positive part alone.
    """
    if values.ndim == 3:
        return values
    return (values.abs() if gradients == "abs" else values.clamp(min=0)).sum(1)


def scaled(maps: Tensor, scale: str) -> Tensor:
    """Maps (N,h,w) in [0, 1]; one that has nothing to show is 0 everywhere.

    `max`: the positive part by its maximum. `range`: from the minimum to the maximum.
    """
    low = maps.amin((1, 2), keepdim=True) if scale == "range" else maps.new_zeros(1)
    risen = (maps - low).clamp(min=0)
    top = risen.amax((1, 2), keepdim=True)
    return risen / top.where(top > 0, 1)


def upsampled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (N,h,w) bilinearly at another size, (N,H,W)."""
    if maps.shape[1:] == size:
        return maps
    return interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def places(maps: Tensor) -> Tensor:
    """The place of each pixel, from 0 for the map's highest on; equal ones as they are stored.

    (N,H,W) -> (N,H,W), long
    """
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    found = torch.empty_like(order)
    found.scatter_(1, order, torch.arange(order.shape[1], device=maps.device).expand_as(order))
    return found.view_as(maps)


def counts(shares: Tensor, maps: Tensor) -> Tensor:
    """How many pixels these shares (S,) of maps (N,H,W) are, (S,)."""
    return (shares * maps[0].numel()).round().long().to(maps.device)


def fill(images: Tensor, preset: Preset, name: str) -> Tensor:
    """What stands for missing pixels of images (N,3,H,W), in the network's units, (N,3,H,W).

    `blur` is RISE's, of 11 x 11 pixels and deviation 5; `mean` the mean colour, which is 0
    where preprocessing has subtracted it; `black` is black.
    """
    if name == "blur":
        return blurred(images)
    mean, std = (images.new_tensor(values)[:, None, None] for values in (preset.mean, preset.std))
    if name == "black":
        return (-mean / std).expand_as(images)
    grey = mean.new_tensor(Preset.mean)[:, None, None]
    return ((grey if not any(preset.mean) else mean) - mean).div(std).expand_as(images)


def blurred(images: Tensor, size: int = 11, sigma: float = 5.0) -> Tensor:
    """Images (N,C,H,W) blurred, zeros around them, as in RISE's code.

    Its kernel is a point that a Gaussian has blurred within `size` pixels, mirrored at their ends:
    flatter than the Gaussian itself.
    """
    reach = round(4 * sigma)
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    point = np.eye(1, size, size // 2)[0]
    mirrored = np.convolve(np.pad(point, reach, mode="symmetric"), bell / bell.sum(), "valid")
    weights = images.new_tensor(mirrored).expand(images.shape[1], 1, 1, size)
    for kernel in (weights, weights.mT):
        padding = (kernel.shape[2] // 2, kernel.shape[3] // 2)
        images = conv2d(images, kernel, padding=padding, groups=images.shape[1])
    return images


def blended(images: Tensor, seen: Tensor, hidden: Tensor) -> Tensor:
    """Images (N,3,H,W) where `seen` (N,H,W) is 1, and `hidden` (N,3,H,W) where it is 0."""
    return torch.lerp(hidden, images, seen[:, None].to(images))
