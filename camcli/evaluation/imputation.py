"""ROAD's noisy linear imputation: missing pixels as weighted means of their neighbours.

Rong et al. 2022, arXiv:2202.00449. Each missing pixel is `sum_n w_n x_n` with w = 1/6 for its four
neighbours and 1/12 for the diagonal ones. Neighbours beyond the edge are left out and the other
weights rescaled to sum to 1. Missing neighbours are unknowns, too, so that each image has one
linear system. Noise is added afterwards, so that the network cannot recognise imputed pixels by
their smoothness.

The system is symmetric and positive definite, and sparse. SciPy factorizes it, once for all
colours. A direct solution is exact to rounding: unlike an iterative one, it has no tolerance that
a large hole might miss. For holes of 224x224 pixels it is also faster than conjugate gradients.

SciPy is imported where it is used, since only ROAD needs it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def impute(images: Tensor, missing: Tensor) -> Tensor:
    """Replace the pixels `missing` (N,H,W) of images (N,C,H,W) by means of their neighbours.

    An image without any known pixel becomes 0. The images are solved in parallel, in float64.
    """
    pixels = images.flatten(2).mT.cpu().double().numpy()  # not every device has doubles
    holes = missing.flatten(1).cpu().numpy()
    differences = _differences(*missing.shape[1:])

    def solve(image: NDArray[np.float64], hole: NDArray[np.bool_]) -> NDArray[np.float64]:
        return _filled(differences, image, hole)

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # SciPy releases the GIL
        filled = np.stack([*threads.map(solve, pixels, holes)])
    return torch.from_numpy(filled).mT.to(images.dtype).to(images.device).reshape(images.shape)


@lru_cache(maxsize=4)
def _differences(height: int, width: int) -> csr_array:
    """Return the matrix (P,P) from an image's P pixels to their differences from their neighbours.

    Each difference is weighted and the weighted ones are added up. The neighbours' weights are a
    product, (1 2 1) down times (1 2 1) / 12 across, in which the pixel itself cancels.
    """
    from scipy.sparse import csr_array, dia_array, diags_array, kron

    down, across = (
        dia_array((np.outer([1, 2, 1], np.ones(side)), [-1, 0, 1]), shape=(side, side))
        for side in (height, width)
    )
    weights = csr_array(kron(down, across)) / 12
    return csr_array(diags_array(weights.sum(1)) - weights)


def _filled(
    differences: csr_array, image: NDArray[np.float64], hole: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return an image (P,C) with the pixels of a hole (P,) such that their differences are zero."""
    from scipy.sparse.linalg import splu

    known = np.where(hole[:, None], 0, image)
    if hole.all() or not hole.any():
        return known
    rows = differences[hole]
    # The orders and the pivots of a symmetric positive definite matrix.
    factors = splu(
        rows[:, hole].tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0,
        options={"SymmetricMode": True},
    )
    known[hole] = factors.solve(-(rows @ known))
    return known
