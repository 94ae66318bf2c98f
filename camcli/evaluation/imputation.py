"""ROAD's noisy linear imputation: missing pixels as weighted means of their neighbours.

Rong et al. 2022, arXiv:2202.00449: each missing pixel is `sum_n w_n x_n`, w = 1/6 for its four
neighbours and 1/12 for the diagonal ones, those beyond the edge left out and the others' weights
made 1 again; missing neighbours are unknowns too, so this is one linear system for each image. A
little noise is added so that the network cannot tell what is imputed by its smoothness.

The system is symmetric and positive, and is solved for all images at once by conjugate gradients.
They begin with the solution for the image at half its size, and so on down: large holes are
filled there, where they are small.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from camcli.models.precision import at_least_float32

_ROUNDS = 200
"""The most steps of conjugate gradients; from so good a beginning a dozen or two are enough."""


def imputed(images: Tensor, missing: Tensor, tolerance: float = 3e-3) -> Tensor:
    """Images (N,C,H,W) with the pixels `missing` (N,H,W) as means of their neighbours.

    `tolerance` is the largest error of an equation, in the image's unit. An image of which all is
    missing becomes 0. Half precision would not come so near, and is solved in float32.
    """
    exact = at_least_float32(images).contiguous()
    return _solved(exact, missing[:, None].to(exact), tolerance).to(images)


def _solved(images: Tensor, missing: Tensor, tolerance: float) -> Tensor:
    """The same with `missing` (N,1,H,W) as 0 and 1."""
    known = images * (1 - missing)
    if min(images.shape[2:]) < 2 or not missing.any():
        return known
    share = avg_pool2d(1 - missing, 2, ceil_mode=True)
    half = avg_pool2d(known, 2, ceil_mode=True) / share.where(share > 0, 1)
    coarse = _solved(half, (share == 0).to(images), tolerance)
    start = interpolate(coarse, images.shape[2:], mode="bilinear", align_corners=False)
    edges = _neighbours(torch.ones_like(missing))

    def equations(x: Tensor) -> Tensor:
        return _neighbours(x).neg_().addcmul_(edges, x).mul_(missing)

    return known + _conjugate(equations, missing * _neighbours(known), missing * start, tolerance)


def _neighbours(x: Tensor) -> Tensor:
    """The weighted sum of each pixel's neighbours and itself (N,C,H,W); zeros beyond the edge.

    With the pixel itself at 1/3 the weights are a product, (1 2 1) down times (1 2 1) / 12 across;
    in the equations it is on both sides, and cancels.
    """
    found = x
    for dim in (2, 3):
        length = found.shape[dim] - 1
        sums = 2 * found
        sums.narrow(dim, 1, length).add_(found.narrow(dim, 0, length))
        sums.narrow(dim, 0, length).add_(found.narrow(dim, 1, length))
        found = sums
    return found.div_(12)


def _conjugate(
    equations: Callable[[Tensor], Tensor], b: Tensor, x: Tensor, tolerance: float
) -> Tensor:
    """The solution of `equations(x) = b` from a first `x` on, each image and colour by itself."""
    residual = b - equations(x)
    direction, square = residual.clone(), _dot(residual, residual)
    for _ in range(_ROUNDS):
        # Each stops by itself, so that it does not hang on the others of its batch.
        off = residual.abs().amax((2, 3), keepdim=True) > tolerance
        if not off.any():
            break
        image = equations(direction)
        curvature = _dot(direction, image)
        step = off * square / curvature.where(curvature > 0, 1)
        x, residual = x.addcmul_(step, direction), residual.addcmul_(step, image, value=-1)
        square, before = _dot(residual, residual), square
        direction.mul_(square / before.where(before > 0, 1)).add_(residual)
    return x


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """For each image and colour, (N,C,1,1)."""
    return torch.einsum("nchw,nchw->nc", a, b)[:, :, None, None]
