"""ROAD's noisy linear imputation: missing pixels as weighted means of their neighbours.

Rong et al. 2022, arXiv:2202.00449. Each missing pixel is `sum_n w_n x_n` with w = 1/6 for its four
neighbours and 1/12 for the diagonal ones. Neighbours beyond the edge are left out and the other
weights rescaled to sum to 1. Missing neighbours are unknowns, too, so that each image has one
linear system. Noise is added afterwards, so that the network cannot recognise imputed pixels by
their smoothness.

The system is symmetric and positive definite. Conjugate gradients solve it for all images at once.
They start from the solution for the image at half size, recursively: large holes are filled where
they are small.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from camcli.models.precision import at_least_float32

_MAX_ITERATIONS = 200
"""The limit for conjugate gradients. From the coarse solution a few dozen iterations suffice."""


def impute(images: Tensor, missing: Tensor, tolerance: float = 3e-3) -> Tensor:
    """Replace the pixels `missing` (N,H,W) of images (N,C,H,W) by means of their neighbours.

    `tolerance` is the largest error of an equation, in the image's unit. An image without any known
    pixel becomes 0. Half precision is solved in float32, since it would not reach the tolerance.
    """
    exact = at_least_float32(images).contiguous()
    return _solve(exact, missing[:, None].to(exact), tolerance).to(images)


def _solve(images: Tensor, missing: Tensor, tolerance: float) -> Tensor:
    """Impute with `missing` (N,1,H,W) as 0 and 1."""
    known = images * (1 - missing)
    if min(images.shape[2:]) < 2 or not missing.any():
        return known
    share = avg_pool2d(1 - missing, 2, ceil_mode=True)
    half = avg_pool2d(known, 2, ceil_mode=True) / share.where(share > 0, 1)
    coarse = _solve(half, (share == 0).to(images), tolerance)
    start = interpolate(coarse, images.shape[2:], mode="bilinear", align_corners=False)
    edges = _weighted_neighbours(torch.ones_like(missing))

    def equations(x: Tensor) -> Tensor:
        return _weighted_neighbours(x).neg_().addcmul_(edges, x).mul_(missing)

    right = missing * _weighted_neighbours(known)
    return known + _conjugate_gradients(equations, right, missing * start, tolerance)


def _weighted_neighbours(x: Tensor) -> Tensor:
    """Return the weighted sum of each pixel's neighbours and itself (N,C,H,W), with zero padding.

    The pixel's own weight is 1/3, which makes the weights a product, (1 2 1) down times (1 2 1) /
    12 across. It is on both sides of the equations and cancels.
    """
    found = x
    for dim in (2, 3):
        length = found.shape[dim] - 1
        sums = 2 * found
        sums.narrow(dim, 1, length).add_(found.narrow(dim, 0, length))
        sums.narrow(dim, 0, length).add_(found.narrow(dim, 1, length))
        found = sums
    return found.div_(12)


def _conjugate_gradients(
    equations: Callable[[Tensor], Tensor], b: Tensor, x: Tensor, tolerance: float
) -> Tensor:
    """Solve `equations(x) = b` from the start `x`, each image and colour on its own."""
    residual = b - equations(x)
    direction, square = residual.clone(), _dot(residual, residual)
    for _ in range(_MAX_ITERATIONS):
        # Each image stops on its own, so that it does not depend on the others of its batch.
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
    """Return the inner product for each image and colour, (N,C,1,1)."""
    return torch.einsum("nchw,nchw->nc", a, b)[:, :, None, None]
