"""Which places of a map a window changes, and how they are cut out of it, along one side.

Rows and columns are alike and apart: a window is a range of rows and a range of columns, and so is
all that it changes. P counts the window's positions along the side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Slide:
    """How an operation slides along one side: the input place `o * stride - padding + t * dilation`
    is seen by output place `o`, for t from 0 to before `kernel`."""

    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    @property
    def reach(self) -> int:
        """How far the last place seen lies behind the first."""
        return self.dilation * (self.kernel - 1)


@dataclass(frozen=True)
class Span:
    """The places that change: `first` (P,) up to before `end` (P,), of a side of `extent` places.

    The patches of all positions are to be one batch. So each has the same `length`, and a window
    at a border, which changes less, has a patch that is moved inwards and holds unchanged places.
    """

    first: Tensor
    end: Tensor
    extent: int

    @property
    def length(self) -> int:
        """How many places a patch has."""
        return max(1, int((self.end - self.first).max()))

    @property
    def start(self) -> Tensor:
        """The first place of each patch (P,)."""
        return self.first.clamp(max=self.extent - self.length)

    def behind(self, slide: Slide, extent: int) -> Span:
        """The places of an operation's output, `extent` many, that see one of these."""
        first = -(-(self.first + slide.padding - slide.reach) // slide.stride)
        end = (self.end - 1 + slide.padding) // slide.stride + 1
        return Span(first.clamp(0, extent), end.clamp(0, extent), extent)

    def joined(self, other: Span) -> Span:
        """The places that are in one or the other, and those between."""
        first, end = self.first.minimum(other.first), self.end.maximum(other.end)
        return Span(first, end, self.extent)

    def same(self, other: Span) -> bool:
        """Whether the patches are of the same places."""
        return self.length == other.length and torch.equal(self.start, other.start)


@dataclass(frozen=True)
class Cut:
    """Cut-outs of a map, one for each position, with room for the position's patch.

    `places` (P,m) are those of the map with `margin` places put before and behind it; `patch` (P,l)
    says where in the cut-out the patch goes, and `inner` what of the cut-out was asked for: a patch
    may overlap it. `share` is how much of the side a cut-out is.
    """

    places: Tensor
    patch: Tensor
    inner: slice
    margin: tuple[int, int]
    share: float

    def to(self, device: torch.device) -> Cut:
        """The same on another device."""
        return replace(self, places=self.places.to(device), patch=self.patch.to(device))


def cut(patch: Span, start: Tensor, length: int) -> Cut:
    """Cut-outs of `length` places from `start` (P,) on, which may lie outside of the map."""
    before = int((start - patch.start).clamp(min=0).max())
    behind = int((patch.start + patch.length - start - length).clamp(min=0).max())
    first, total = start - before, before + length + behind
    margin = max(0, -int(first.min())), max(0, int(first.max()) + total - patch.extent)
    return Cut(
        places=first[:, None] + margin[0] + torch.arange(total),
        patch=(patch.start - first)[:, None] + torch.arange(patch.length),
        inner=slice(before, before + length),
        margin=margin,
        share=total / patch.extent,
    )


def seen(patch: Span, of: Span, slide: Slide) -> Cut:
    """What an operation has to see of its input, changed at `patch`, for its output at `of`."""
    start = of.start * slide.stride - slide.padding
    return cut(patch, start, (of.length - 1) * slide.stride + slide.reach + 1)


def moved(patch: Span, to: Span) -> Cut:
    """The places of another patch, which holds this one's changes."""
    return cut(patch, to.start, to.length)


def whole(patch: Span) -> Cut:
    """The whole side, for each position."""
    return cut(patch, torch.zeros_like(patch.start), patch.extent)
