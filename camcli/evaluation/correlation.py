"""Correlation of maps, image by image."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of maps (N,...) and (N,...) -> (N,), NaN where one is flat."""
    a, b = (x.flatten(1).cpu().double() for x in (a, b))  # not every device has doubles
    # Asked of the values themselves: a flat map's mean is not exact, and leaves a little of it.
    flat = (a.amax(1) == a.amin(1)) | (b.amax(1) == b.amin(1))
    a, b = (x - x.mean(1, keepdim=True) for x in (a, b))
    a, b = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
    return (a * b).sum(1).masked_fill(flat, float("nan"))


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's correlation of maps (N,...) and (N,...) -> (N,), -1 to 1; 0 where one is flat."""
    return pearson(ranks(a), ranks(b)).nan_to_num(0.0)


def ranks(values: Tensor) -> Tensor:
    """The place of each value in the order of its image's, (N,...) -> (N,P), 0 to P - 1.

    Without equal values that is `argsort` of `argsort` (a single one gives the order, not the
    places: a bug that replications of published numbers had). Equal ones share their mean place, so
    that a map with many zeros does not correlate by the order in which they are stored.
    """
    import torch

    flat = values.flatten(1).contiguous()
    ordered = flat.sort(1).values
    below = torch.searchsorted(ordered, flat)
    upto = torch.searchsorted(ordered, flat, right=True)
    return (below + upto - 1).float() / 2
