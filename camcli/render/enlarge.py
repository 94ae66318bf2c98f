"""Enlarge maps to the size of the network's input, as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from camcli.images.geometry import Centres, Floats


def enlarge(maps: Tensor, shape: Sequence[int], centres: Centres | None = None) -> Tensor:
    """Resize maps (N,h,w) bilinearly to (N,H,W), with each cell's value at the cell's centre.

    `shape` is (H,W) and `centres` are in pixels of it. Without centres the cells are equal parts.
    """
    if is_of_parts(centres, maps.shape[1:], shape):
        if maps.shape[1:] == tuple(shape):
            return maps
        return interpolate(maps[:, None], tuple(shape), mode="bilinear", align_corners=False)[:, 0]
    assert centres is not None
    rows, columns = centres.cells(maps.shape, (0, 0, shape[1], shape[0]))
    return _interpolated(_interpolated(maps, rows, 1), columns, 2)


def _interpolated(maps: Tensor, cells: Floats, dim: int) -> Tensor:
    """Interpolate maps linearly at places in cells along one dimension.

    Unlike a product of matrices, it keeps equal values equal, to the last digit.
    """
    places = torch.from_numpy(cells).to(maps)
    first = places.long()
    second = (first + 1).clamp(max=maps.shape[dim] - 1)
    share = (places - first).view(-1, *[1] * (maps.ndim - 1 - dim))
    return torch.lerp(maps.index_select(dim, first), maps.index_select(dim, second), share)


def is_of_parts(centres: Centres | None, cells: Sequence[int], shape: Sequence[int]) -> bool:
    """Return whether centres of (h,w) cells are those of equal parts of (H,W) pixels, or None."""
    box = (0, 0, shape[1], shape[0])
    return centres is None or centres.is_near(Centres.of_parts(cells, box), cells)


def weights(centres: Centres, maps: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the factors (H,h) and (w,W) that enlarge maps (...,h,w) to (...,H,W)."""
    rows, columns = centres.weights(maps.shape[-2:], (0, 0, shape[1], shape[0]))
    return torch.from_numpy(rows).to(maps), torch.from_numpy(columns.T).to(maps)
