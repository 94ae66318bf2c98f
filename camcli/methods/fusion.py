"""Fuse the maps of several layers into one.

torch is imported only where it is used, so that `camcli --help` can list FUSIONS without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from camcli.errors import MethodError, unknown
from camcli.methods.registry import Method

if TYPE_CHECKING:
    from torch import Tensor

FUSIONS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"mean": lambda maps: maps.mean(0), "product": lambda maps: maps.prod(0)}
)
"""The functions that fuse maps of L layers with values in [0, 1], (L,N,H,W) -> (N,H,W)."""


def fuse(maps: Sequence[Tensor], fusion: str) -> Tensor:
    """Fuse maps of L layers, enlarged to the input's size (N,H,W), into one (N,H,W) in [0, 1].

    Layers differ in scale. The positive part of each map is therefore divided by its maximum. A map
    without a positive value counts as zero.
    """
    import torch

    scaled = []
    for layer_maps in maps:
        positive = layer_maps.relu()
        largest = positive.amax((1, 2), keepdim=True)
        scaled.append(positive / largest.where(largest > 0, 1))
    return FUSIONS[fusion](torch.stack(scaled))


def check_fusion(fusion: str | None, methods: Sequence[Method], layers: Sequence[object]) -> None:
    """Raise MethodError if these methods cannot be fused over these layers."""
    if fusion is None:
        return
    if fusion not in FUSIONS:
        raise MethodError(unknown("fusion", fusion, FUSIONS))
    if len(layers) < 2:
        raise MethodError(f"fusion '{fusion}' needs two layers or more, got {len(layers)}")
    if images := [method.name for method in methods if method.at_layer and method.image]:
        raise MethodError(f"'{images[0]}' gives images, and only maps can be fused: leave it out")
