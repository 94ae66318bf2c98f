"""The maps of several layers made one.

torch is imported only where it is used, so that the command line can list the ways at once.
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
"""How maps of one size, each from 0 to 1, are made one: (L,N,H,W) -> (N,H,W)."""


def fused(maps: Sequence[Tensor], how: str, size: Sequence[int]) -> Tensor:
    """The maps (N,h,w) of L layers as one (N,H,W) of `size`, the input's, in [0, 1].

    Layers differ in size and scale, so each map is upsampled bilinearly and its positive part
    divided by its maximum first. One that is nowhere positive counts as zero everywhere.
    """
    import torch
    from torch.nn.functional import interpolate

    scaled = []
    for of_layer in maps:
        even = interpolate(of_layer[:, None], tuple(size), mode="bilinear", align_corners=False)
        positive = even[:, 0].relu()
        largest = positive.amax((1, 2), keepdim=True)
        scaled.append(positive / largest.where(largest > 0, 1))
    return FUSIONS[how](torch.stack(scaled))


def check(how: str | None, methods: Sequence[Method], layers: Sequence[object]) -> None:
    """Refuse what cannot be fused. Raises MethodError."""
    if how is None:
        return
    if how not in FUSIONS:
        raise MethodError(unknown("fusion", how, FUSIONS))
    if len(layers) < 2:
        raise MethodError(f"fusion '{how}' needs two layers or more, got {len(layers)}")
    if images := [method.name for method in methods if method.at_layer and method.image]:
        raise MethodError(f"'{images[0]}' gives images, and only maps can be fused: leave it out")
