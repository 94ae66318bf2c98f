"""Layouts of layer outputs that are not (N,C,h,w), and the conversions to and from that.

A rule makes the layout of a layer from the network's configuration and the path of the layer. The
rows of `families.SPECS` tell which layers need which rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn


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


def channels_last(_network: nn.Module, _path: str) -> Layout:
    """Return the layout (N,h,w,C), as in Swin Transformers and inside ConvNeXt's blocks."""
    return Layout(4, lambda output: output.movedim(3, 1), lambda maps, _: maps.movedim(1, 3))


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
