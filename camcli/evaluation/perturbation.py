"""Images multiplied by a map, and images without the pixels that a map ranks first or last."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from camcli.images.preprocess import Preset


def sum_gradients(maps: Tensor, sign: str) -> Tensor:
    """Sum images of signed gradients (N,3,H,W) over the colours, (N,H,W). Maps (N,h,w) stay.

    `sign` is `abs` for absolute values, or `positive` for the positive part.
    """
    if maps.ndim == 3:
        return maps
    return (maps.abs() if sign == "abs" else maps.clamp(min=0)).sum(1)


def normalize(maps: Tensor, how: str) -> Tensor:
    """Scale maps (N,h,w) to [0, 1]. A map without positive values, or a flat one, becomes 0.

    `max` divides the positive part by the maximum; `minmax` scales from minimum to maximum.
    """
    low = maps.amin((1, 2), keepdim=True) if how == "minmax" else maps.new_zeros(1)
    risen = (maps - low).clamp(min=0)
    top = risen.amax((1, 2), keepdim=True)
    return risen / top.where(top > 0, 1)


def ranked(maps: Tensor) -> Tensor:
    """Return the pixels of maps (N,H,W), the highest first, (N,H*W); equal ones as stored."""
    return maps.flatten(1).argsort(dim=1, descending=True, stable=True)


def pixel_order(maps: Tensor) -> Tensor:
    """Return each pixel's place, 0 for the highest of its map; equal pixels as they are stored.

    (N,H,W) -> (N,H,W), long
    """
    order = ranked(maps)
    places = torch.empty_like(order)
    places.scatter_(1, order, torch.arange(order.shape[1], device=maps.device).expand_as(order))
    return places.view_as(maps)


def pixel_counts(shares: Tensor, maps: Tensor) -> Tensor:
    """Return the number of pixels of maps (N,H,W) that each of the shares (S,) stands for, (S,)."""
    return (shares * maps[0].numel()).round().long().to(maps.device)


def replacing(
    before: Tensor, after: Tensor, pixels: Tensor, counts: Tensor
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function of image indices and steps (M,), which gives images (M,C,H,W).

    They are those of `before` (N,C,H,W), with the first `counts` (S,) of `pixels` (N,H*W) from
    `after`. Each one begins with the image of the step before it, if that is in its batch, so that
    only the pixels of a step are written: 1 ms for 16 images of 224 pixels, where a mask over all
    pixels takes 10 to 20.
    """
    shape, totals = before.shape[1:], counts.tolist()
    old, new = (images.movedim(1, -1).flatten(1, 2) for images in (before, after))

    def images_at(index: Tensor, step: Tensor) -> Tensor:
        made = old.new_empty(len(index), *old.shape[1:])
        last, done = -1, 0
        for row, (image, at) in enumerate(zip(index.tolist(), step.tolist(), strict=True)):
            if image == last and done <= totals[at]:
                made[row] = made[row - 1]
            else:
                made[row], done = old[image], 0
            written = pixels[image, done : totals[at]]
            made[row].index_copy_(0, written, new[image].index_select(0, written))
            last, done = image, totals[at]
        return made.view(-1, *shape[1:], shape[0]).movedim(-1, 1)

    return images_at


def fill(images: Tensor, preset: Preset, name: str) -> Tensor:
    """Return the replacement for missing pixels of images (N,3,H,W), in the network's units.

    `blur` is RISE's, of 11 x 11 pixels and sigma 5; `mean` is the mean colour, 0 where
    preprocessing has subtracted it; `black` is black. (N,3,H,W)
    """
    if name == "blur":
        return blurred(images)
    if name == "black":
        colour = [-mean / std for mean, std in zip(preset.mean, preset.std, strict=True)]
    else:
        colour = [*preset.mean_colour]
    return images.new_tensor(colour)[:, None, None].expand_as(images)


def blurred(images: Tensor, size: int = 11, sigma: float = 5.0) -> Tensor:
    """Blur images (N,C,H,W) with zero padding, as RISE's code does.

    Its kernel is a Gaussian blur of a single point within `size` pixels, mirrored at the border,
    which is flatter than the Gaussian itself.
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


def blend(images: Tensor, mask: Tensor, hidden: Tensor) -> Tensor:
    """Mix images (N,3,H,W) where `mask` (N,H,W) is 1 with `hidden` (N,3,H,W) where it is 0."""
    return torch.lerp(hidden, images, mask[:, None].to(images))
