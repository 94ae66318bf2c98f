"""The last linear map of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Head:
    """The last linear map of a network whose score is the mean of a class map.

    `linear` is an `nn.Linear` behind the pooling or a 1x1 `nn.Conv2d` before it; `rectified` says
    that a ReLU without a module of its own stands between the target layer and the pooling.
    """

    linear: nn.Module
    rectified: bool = False
