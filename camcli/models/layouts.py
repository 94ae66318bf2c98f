"""Grids: how a layer that keeps its map in another layout gives it as (N,C,h,w), and takes it back.

A rule is made from the network it belongs to, by that network's own configuration, and the path of
the layer in it. Which layers need which rule is said by the rows of `families.SPECS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Layout:
    """A layer's layout.

    `to_map` brings its output, of `ndim` dimensions, to (N,C,h,w); `to_output` brings such a map
    back, given the whole output as well for what is not part of the map. Both can be
    differentiated, and one undoes the other.
    """

    ndim: int
    to_map: Callable[[Tensor], Tensor]
    to_output: Callable[[Tensor, Tensor], Tensor]


Rule: TypeAlias = Callable[[nn.Module, str], Layout]

PLAIN = Layout(4, lambda output: output, lambda maps, _: maps)
"""Convolutions' own layout, (N,C,h,w)."""


def channels_last(_network: nn.Module, _path: str) -> Layout:
    """(N,h,w,C), as in Swin Transformers and inside ConvNeXt's blocks."""
    return Layout(4, lambda output: output.movedim(3, 1), lambda maps, _: maps.movedim(1, 3))


def patches(vit: nn.Module, _path: str) -> Layout:
    """A Vision Transformer's tokens (N,1+hw,C): the class token, then the patches row by row.

    Its sizes are its own attributes in torchvision, and its configuration's in `transformers`.
    """
    facts: Any = getattr(vit, "config", vit)
    side = int(facts.image_size) // int(facts.patch_size)

    def to_map(output: Tensor) -> Tensor:
        return output[:, 1:].mT.reshape(len(output), -1, side, side)

    def to_output(maps: Tensor, output: Tensor) -> Tensor:
        return torch.cat([output[:, :1], maps.flatten(2).mT], dim=1)

    return Layout(3, to_map, to_output)


def windows(maxvit: nn.Module, path: str) -> Layout:
    """The parts of a map that attend to themselves inside a MaxViT's block, (N,G,P,C).

    G windows of P neighbours each, or, in the other half of a block, P places that lie as far apart
    as the grid is wide; the block's own modules cut a map so and put it together.
    """
    owner, _, part = path.partition("_attention.")
    block = maxvit.get_submodule(f"{owner}_attention")
    p, (height, width) = int(block.p), block.grid_size  # type: ignore[misc,arg-type]
    rows, columns = height // p, width // p
    # Between the swaps, the P places and the G windows of a grid have changed roles.
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
