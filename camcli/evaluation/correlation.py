"""Correlation of maps, image by image."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Compute Pearson's correlation of maps (N,...) and (N,...) -> (N,), NaN where one is flat."""
    a, b = (x.flatten(1).cpu().double() for x in (a, b))  # not every device has doubles
    # By the extremes: rounding leaves a flat map a small variance.
    flat = (a.amax(1) == a.amin(1)) | (b.amax(1) == b.amin(1))
    a, b = (x - x.mean(1, keepdim=True) for x in (a, b))
    a, b = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
    return (a * b).sum(1).masked_fill(flat, float("nan"))


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Compute Spearman's correlation of maps (N,...) and (N,...) -> (N,), 0 where one is flat."""
    return pearson(ranks(a), ranks(b)).nan_to_num(0.0)


def ranks(values: Tensor) -> Tensor:
    """Return the rank of each value within its image, (N,...) -> (N,P), 0 to P - 1.

    Equal values share their mean rank, so that the zeros of a map do not correlate by the order in
    which they are stored. Without equal values this is `argsort` of `argsort`; a single `argsort`
    gives the order instead, a known bug of replications.
    """
    import torch

    flat = values.flatten(1).contiguous()
    ordered = flat.sort(1).values
    below = torch.searchsorted(ordered, flat)
    upto = torch.searchsorted(ordered, flat, right=True)
    return (below + upto - 1).float() / 2
