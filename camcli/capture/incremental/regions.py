"""The positions of a map that a window changes, and cut-outs around them, along one side.

A window is a range of rows and a range of columns, and so is everything that it changes. Rows and
columns are therefore handled separately. P is the number of window positions along the side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Slide:
    """The geometry of a sliding operation along one side.

    Output position `o` depends on the input positions `o * stride - padding + t * dilation` for t
    from 0 to `kernel - 1`.
    """

    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    @property
    def reach(self) -> int:
        """The distance between the first and the last input position of one output position."""
        return self.dilation * (self.kernel - 1)


@dataclass(frozen=True)
class Span:
    """The positions that change: from `first` (P,) to before `end` (P,), of `extent` positions.

    The patches of all windows form one batch, so all have the same `length`. A window at a border
    changes fewer positions; its patch is moved inwards and includes unchanged ones.
    """

    first: Tensor
    end: Tensor
    extent: int

    @property
    def length(self) -> int:
        return max(1, int((self.end - self.first).max()))

    @property
    def start(self) -> Tensor:
        """The first position of each patch (P,)."""
        return self.first.clamp(max=self.extent - self.length)

    def after(self, slide: Slide, extent: int) -> Span:
        """Return the positions of an operation's output, of `extent`, that depend on these."""
        first = -(-(self.first + slide.padding - slide.reach) // slide.stride)
        end = (self.end - 1 + slide.padding) // slide.stride + 1
        return Span(first.clamp(0, extent), end.clamp(0, extent), extent)

    def union(self, other: Span) -> Span:
        """Return the positions in either span, and those between the two."""
        first, end = self.first.minimum(other.first), self.end.maximum(other.end)
        return Span(first, end, self.extent)

    def has_same_patches(self, other: Span) -> bool:
        return self.length == other.length and torch.equal(self.start, other.start)


@dataclass(frozen=True)
class Cut:
    """Cut-outs of a map, one for each window position, with room for the window's patch.

    `places` (P,m) index the map after padding it by `margin` before and after. `patch` (P,l) are
    the positions of the patch in the cut-out, and `inner` is the requested part of the cut-out,
    which a patch may exceed. `share` is the length of a cut-out relative to the side.
    """

    places: Tensor
    patch: Tensor
    inner: slice
    margin: tuple[int, int]
    share: float

    def to(self, device: torch.device) -> Cut:
        return replace(self, places=self.places.to(device), patch=self.patch.to(device))


def cut(patch: Span, start: Tensor, length: int) -> Cut:
    """Return cut-outs of `length` positions from `start` (P,), which may lie outside the map."""
    before = int((start - patch.start).clamp(min=0).max())
    after = int((patch.start + patch.length - start - length).clamp(min=0).max())
    first, total = start - before, before + length + after
    margin = max(0, -int(first.min())), max(0, int(first.max()) + total - patch.extent)
    return Cut(
        places=first[:, None] + margin[0] + torch.arange(total),
        patch=(patch.start - first)[:, None] + torch.arange(patch.length),
        inner=slice(before, before + length),
        margin=margin,
        share=total / patch.extent,
    )


def cut_input(patch: Span, output: Span, slide: Slide) -> Cut:
    """Return the part of an operation's input, changed at `patch`, that its `output` depends on."""
    start = output.start * slide.stride - slide.padding
    return cut(patch, start, (output.length - 1) * slide.stride + slide.reach + 1)


def cut_whole(patch: Span) -> Cut:
    """Return the whole side for each window position."""
    return cut(patch, torch.zeros_like(patch.start), patch.extent)
