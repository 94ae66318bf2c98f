"""What the papers leave open, as options with their own reading as the default."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

PRODUCTS = ("raw", "mean")
"""How an image is multiplied by its map: its pixels, so that black is nothing, or what they differ
by from the mean colour, so that the mean colour is."""
SCALES = ("max", "range")
"""How a map comes to [0, 1]: its positive part by its maximum, or from its minimum to that."""
GRADIENTS = ("abs", "positive")
"""What of an image of signed gradients counts before its colours are added up."""
FILLS = ("blur", "mean", "black")
"""What stands where a pixel is missing."""
CELLS = ("full", "half")
"""The size of an image in a grid: its own, the grid being twice as large, or half of it."""


@dataclass(frozen=True)
class Protocol:
    """How the metrics are taken.

    `steps` of insertion and deletion, evenly spaced (RISE's 8 rows a step at 224 pixels are 28);
    `noise` is the deviation of ROAD's, in the network's input; `sure` the least probability of an
    image in a grid; `stages` how often the sanity check goes further down; `window` and `stride`
    occlusion's square and step in input pixels, None for a seventh of the shorter side and half of
    that; `seed` decides all that is random.
    """

    product: str = "raw"
    scale: str = "max"
    gradients: str = "abs"
    insertion_fill: str = "blur"
    deletion_fill: str = "mean"
    steps: int = 28
    noise: float = 0.01
    sure: float = 0.99
    cells: str = "full"
    stages: int = 8
    window: int | None = None
    stride: int | None = None
    seed: int = 0

    def used(self, evidence: Iterable[str]) -> dict[str, Any]:
        """What of it decides this evidence, a name in EVIDENCE each; in the order above."""
        names = set(evidence)
        used = {"gradients", "seed"} | {f for name in names for f in _DECIDING.get(name, ())}
        return {field: value for field, value in asdict(self).items() if field in used}


_DECIDING = MappingProxyType(
    {
        "seen": ("scale",),
        "kept": ("product", "scale"),
        "rivals": ("product", "scale"),
        "again": ("product", "scale"),
        "deleted": ("deletion_fill", "steps"),
        "inserted": ("insertion_fill", "steps"),
        "imputed": ("noise",),
        "spared": ("noise",),
        "occlusion": ("window", "stride"),
        "mosaic": ("sure", "cells"),
        "unlearnt": ("stages",),
    }
)
