"""The choices that the papers leave open, as options. The defaults follow the papers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from camcli.evaluation.registry import METRIC_EVIDENCE

MASKINGS = ("black", "mean")
"""The colour that a masked pixel fades to: black, or the mean colour."""
NORMALIZATIONS = ("max", "minmax")
"""How a map is scaled to [0, 1]: its positive part by its maximum, or from minimum to maximum."""
NORMALIZE_ORDERS = ("after-upsampling", "before-upsampling")
"""Whether a map is scaled at the size of the input or at its own. The published code of Score-CAM
does the former for all methods, that of Grad-CAM++ the latter."""
GRADIENT_SIGNS = ("abs", "positive")
"""The part of an image of signed gradients that is summed over the colours."""
PLACEMENTS = ("centres", "equal-parts")
"""Where the cells of a map are: at the centres of their receptive fields where these are known, or
in equal parts of the input, as in the published code."""
FILLS = ("blur", "mean", "black")
"""The replacement for missing pixels."""
GRID_IMAGE_SIZES = ("full", "half")
"""The size of an image in a grid: its own, so that the grid is twice as large, or half of it."""


@dataclass(frozen=True)
class Protocol:
    """How evidence is taken. The fields are named as the options of `camcli evaluate`.

    `curve_steps` are evenly spaced; RISE's 8 rows of pixels a step are 28 steps at 224 pixels.
    `road_noise` is a standard deviation in the network's input. `window` and `stride` are in input
    pixels; None means a seventh of the shorter side, and half of the window.
    """

    masking: str = "black"
    normalize: str = "max"
    normalize_order: str = "after-upsampling"
    gradient_sign: str = "abs"
    placement: str = "centres"
    insertion_fill: str = "blur"
    deletion_fill: str = "mean"
    curve_steps: int = 28
    road_noise: float = 0.01
    min_confidence: float = 0.99
    grid_image_size: str = "full"
    sanity_steps: int = 8
    window: int | None = None
    stride: int | None = None
    seed: int = 0

    def deciding(self, evidence: Iterable[str]) -> dict[str, Any]:
        """Return the options that decide the named evidence, in the order of the fields."""
        options = {"gradient_sign", "placement", "seed"}.union(
            *(METRIC_EVIDENCE[name].options for name in evidence)
        )
        return {field: value for field, value in asdict(self).items() if field in options}
