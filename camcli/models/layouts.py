"""Layouts of layer outputs that are not (N,C,h,w), and the conversions to and from that.

A rule makes the layout of a layer from the network's configuration and the path of the layer. The
rows of `families.SPECS` tell which layers need which rule. For other networks `from_axes` makes it
from the axes that a traced forward pass finds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from camcli.errors import ModelError
from camcli.models.atoms import SPATIAL, Atom
from camcli.models.axes import Axes, Axis


@dataclass(frozen=True)
class Layout:
    """The layout of a layer's output.

    `to_map` converts the output, of `ndim` dimensions, to a map (N,C,h,w). `to_output` is its
    inverse; it also takes the output, for values that are not part of the map. Both are
    differentiable.
    """

    ndim: int
    to_map: Callable[[Tensor], Tensor]
    to_output: Callable[[Tensor, Tensor], Tensor]


Rule: TypeAlias = Callable[[nn.Module, str], Layout]

PLAIN = Layout(4, lambda output: output, lambda maps, _: maps)
"""The layout of convolutions, (N,C,h,w)."""


CHANNELS_LAST = Layout(4, lambda output: output.movedim(3, 1), lambda maps, _: maps.movedim(1, 3))
"""The layout (N,h,w,C), as in Swin Transformers and inside ConvNeXt's blocks."""


def channels_last(_network: nn.Module, _path: str) -> Layout:
    """Return the layout (N,h,w,C)."""
    return CHANNELS_LAST


def patch_tokens(vit: nn.Module, _path: str) -> Layout:
    """Return the layout of a Vision Transformer's tokens (N,1+hw,C).

    The class token comes first, then the patches row by row.
    """
    sizes: Any = getattr(vit, "config", vit)  # `transformers` has a config, torchvision has not
    side = int(sizes.image_size) // int(sizes.patch_size)

    def to_map(output: Tensor) -> Tensor:
        return output[:, 1:].mT.reshape(len(output), -1, side, side)

    def to_output(maps: Tensor, output: Tensor) -> Tensor:
        return torch.cat([output[:, :1], maps.flatten(2).mT], dim=1)

    return Layout(3, to_map, to_output)


def maxvit_windows(maxvit: nn.Module, path: str) -> Layout:
    """Return the layout of the windows in a MaxViT block, (N,G,P,C).

    A block first attends within G windows of P neighbouring positions. Then it attends within
    grids, whose positions are spread over the whole map.
    """
    owner, _, part = path.partition("_attention.")
    block = maxvit.get_submodule(f"{owner}_attention")
    p, (height, width) = int(block.p), block.grid_size  # type: ignore[misc,arg-type]
    rows, columns = height // p, width // p
    # In grid attention, the axes G and P are swapped between these two modules.
    swapped = block.partition_type == "grid" and part not in ("partition_op", "departition_swap")

    def to_map(output: Tensor) -> Tensor:
        cut = output.swapaxes(1, 2) if swapped else output
        tiles = cut.reshape(len(cut), rows, columns, p, p, -1)
        return tiles.permute(0, 5, 1, 3, 2, 4).reshape(len(cut), -1, height, width)

    def to_output(maps: Tensor, _: Tensor) -> Tensor:
        tiles = maps.reshape(len(maps), -1, rows, p, columns, p)
        cut = tiles.permute(0, 2, 4, 3, 5, 1).reshape(len(maps), rows * columns, p * p, -1)
        return cut.swapaxes(1, 2) if swapped else cut

    return Layout(4, to_map, to_output)


def from_axes(axes: Axes, shape: Sequence[int]) -> Layout | None:
    """Return the layout of an output of one image, from its axes and its shape.

    Return None if the output has no rows and columns of the whole image, in order, or if their
    places are not known. The images of a batch lie in the outermost part of the first axis.
    """
    if _are_map(axes, 1):
        return PLAIN
    if _are_map(axes, 3) and min(shape[1:3]) > 1:
        return CHANNELS_LAST
    located = [i for i, axis in enumerate(axes) if axis.counts_places]
    odd = [i for i, axis in enumerate(axes) if axis.before or axis.after]
    rest = [i for i, axis in enumerate(axes) if i not in located and shape[i] > 1]
    sides = [_side(kind, [axes[i] for i in located]) for kind in SPATIAL]
    if None in sides or 0 in rest or len(odd) > 1 or not set(odd) <= set(located) - {0}:
        return None
    if any("?" in axes[i].kinds for i in rest):
        return None
    return _rearranged(axes, tuple(shape), located, odd[0] if odd else None)


def _are_map(axes: Axes, channel: int) -> bool:
    """Return whether the axes are those of one map, with the channels at this position."""
    if len(axes) != 4 or axes[0].atoms or axes[channel].kinds - {"c"}:
        return False
    sides = [axis for i, axis in enumerate(axes) if i not in (0, channel)]
    return all(
        axis.kinds <= {kind} and len(axis.atoms) <= 1 and not axis.before + axis.after
        for axis, kind in zip(sides, SPATIAL, strict=True)
    )


def _side(kind: str, axes: Sequence[Axis]) -> int | None:
    """Return the number of rows or columns that axes count together; None if some are missing."""
    atoms = sorted((atom for axis in axes for atom in axis.atoms), key=lambda atom: atom.stride)
    if any(atom.kind not in SPATIAL for atom in atoms):
        return None
    own = [atom for atom in atoms if atom.kind == kind]
    for inner, outer in pairwise(own):
        if outer.stride != inner.stride * inner.size:
            return None
    return math.prod(atom.size for atom in own) if own else None


def _rearranged(axes: Axes, shape: tuple[int, ...], located: list[int], odd: int | None) -> Layout:
    """Return the layout that cuts the located axes into atoms, and sorts and merges these."""
    sizes, order = [-1], list[tuple[int, int, int]]()  # of each part: its rank, and its number
    channels = 1
    for i, size in enumerate(shape):
        atoms = axes[i].atoms if i in located else (Atom("c", 0, size),)
        for atom in atoms if i in located or i else ():
            rank = 0 if i not in located else 1 + SPATIAL.index(atom.kind)
            order.append((rank, -atom.stride, len(sizes)))
            sizes.append(atom.size)
            channels *= 1 if rank else atom.size
    permutation = [0, *(number for *_, number in sorted(order))]
    inverse = [permutation.index(i) for i in range(len(permutation))]
    height, width = (
        math.prod(atom.size for i in located for atom in axes[i].atoms if atom.kind == kind)
        for kind in SPATIAL
    )
    start = axes[odd].before if odd is not None else 0
    count = shape[odd] - start - axes[odd].after if odd is not None else 0

    def to_map(output: Tensor) -> Tensor:
        if tuple(output.shape[1:]) != shape[1:] or len(output) % shape[0]:
            raise ModelError(
                f"a layer gives {tuple(output.shape)}, where a single image of this size gave "
                f"{shape}: name another layer"
            )
        inside = output if odd is None else output.narrow(odd, start, count)
        return inside.reshape(sizes).permute(permutation).reshape(-1, channels, height, width)

    def to_output(maps: Tensor, output: Tensor) -> Tensor:
        parts = maps.reshape(-1, *(sizes[number] for number in permutation[1:])).permute(inverse)
        inside = (len(output), *output.shape[1:])
        if odd is None:
            return parts.reshape(inside)
        inner = parts.reshape(*inside[:odd], count, *inside[odd + 1 :])
        ends = (
            output.narrow(odd, 0, start),
            output.narrow(odd, start + count, output.shape[odd] - start - count),
        )
        return torch.cat([ends[0], inner, ends[1]], dim=odd)

    return Layout(len(shape), to_map, to_output)
