"""The linear map that CAM reads."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Head:
    """The last linear map of a network whose score is the mean of a class map.

    `linear` is an `nn.Linear` after the pooling or a 1x1 `nn.Conv2d` before it. `rectified` tells
    whether a functional ReLU lies between the target layer and the pooling.
    """

    linear: nn.Module
    rectified: bool = False
