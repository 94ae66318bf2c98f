"""Two maps that know nothing of network and image; a method must beat both to show anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

Control = Callable[[Sequence[int], int], Tensor]
SIDE = 7
"""The controls' cells in each direction: as coarse as most networks' last maps."""


def random(numbers: Sequence[int], seed: int) -> Tensor:
    """Uniform noise, the same for the same image number and seed, (N,7,7) in [0, 1)."""
    drawn = [np.random.default_rng((seed, number)).random((SIDE, SIDE)) for number in numbers]
    return torch.from_numpy(np.stack(drawn)).float()


def centre(numbers: Sequence[int], _seed: int) -> Tensor:
    """A Gaussian in the middle, its deviation a quarter of the side, (N,28,28) in (0, 1]."""
    offsets = (torch.arange(4 * SIDE) + 0.5) / (4 * SIDE) - 0.5
    bell = torch.exp(-offsets.square() / (2 * 0.25**2))
    return (bell[:, None] * bell).expand(len(numbers), -1, -1)


CONTROLS: MappingProxyType[str, Control] = MappingProxyType({"random": random, "centre": centre})
"""They are in every table, below the methods."""
