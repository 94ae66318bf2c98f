"""Two maps that depend on neither the network nor the image. A useful method beats both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

Baseline: TypeAlias = Callable[[Sequence[int], int], Tensor]
"""Returns maps (N,h,w) for the image numbers (N,) and a seed."""
SIDE = 7
"""The side of the random maps, as coarse as the last layer of most networks."""


def random(numbers: Sequence[int], seed: int) -> Tensor:
    """Draw uniform noise (N,7,7) in [0, 1), a function of image number and seed."""
    drawn = [np.random.default_rng((seed, number)).random((SIDE, SIDE)) for number in numbers]
    return torch.from_numpy(np.stack(drawn)).float()


def centre(numbers: Sequence[int], _seed: int) -> Tensor:
    """Return a centred Gaussian (N,28,28) in (0, 1], its sigma a quarter of the side."""
    offsets = (torch.arange(4 * SIDE) + 0.5) / (4 * SIDE) - 0.5
    bell = torch.exp(-offsets.square() / (2 * 0.25**2))
    return (bell[:, None] * bell).expand(len(numbers), -1, -1)


BASELINES: MappingProxyType[str, Baseline] = MappingProxyType({"random": random, "centre": centre})
"""The baselines by name. Every table has them, after the methods."""
