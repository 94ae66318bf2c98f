"""The detectors and segmentation networks of `transformers`, whose outputs get the input's size."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from camcli.errors import ModelError

DETECTORS: Mapping[str, bool] = MappingProxyType(
    {"detr": True, "rt_detr": False, "rt_detr_v2": False, "d_fine": False}
)
"""The kinds of detectors by `model_type`, and whether a softmax tells the class of a query.

Its last class is then that of no object. Otherwise each class has a sigmoid. Both are as in
`post_process_object_detection` of their image processors."""


class Queries(NamedTuple):
    """The scores and boxes that a detector gives for each of Q queries.

    `logits` (N,Q,K) are those of K classes, and `shares` (N,Q,K) their probabilities. `boxes`
    (N,Q,4) are x0, y0, x1, y1 in input pixels. `exclusive` says that a query has one class.
    """

    logits: Tensor
    shares: Tensor
    boxes: Tensor
    exclusive: bool


class PixelScores(NamedTuple):
    """Class scores for every pixel of the input, (N,K,H,W), and whether class 0 is background."""

    logits: Tensor
    background: bool


class QueryDetector(nn.Module):
    """A detector that gives Queries. Raises ModelError for an output of another form."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.config = network.config

    @property
    def backbone(self) -> nn.Module:
        """The part whose maps do not depend on values, as that of torchvision's detectors."""
        found: nn.Module = self.network.model.backbone.model
        return found

    def forward(self, images: Tensor) -> Queries:
        """(N,3,H,W) -> Q queries for each image"""
        output = self.network(pixel_values=images)
        logits, boxes = (getattr(output, name, None) for name in ("logits", "pred_boxes"))
        exclusive = DETECTORS[self.config.model_type]
        count = self.config.num_labels + exclusive
        if logits is None or boxes is None or (logits.ndim, logits.shape[-1]) != (3, count):
            given = None if logits is None else tuple(logits.shape)
            raise ModelError(
                f"{type(self.network).__name__} gives the logits {given}: expected (N,Q,{count}) "
                f"and pred_boxes"
            )
        shares = logits.softmax(-1)[..., :-1] if exclusive else logits.sigmoid()
        centres, sides = boxes[..., :2], boxes[..., 2:]
        corners = torch.cat([centres - sides / 2, centres + sides / 2], -1)
        size = corners.new_tensor([images.shape[3], images.shape[2]]).repeat(2)
        return Queries(logits[..., : self.config.num_labels], shares, corners * size, exclusive)


class PixelClassifier(nn.Module):
    """A segmentation network whose scores are enlarged to the size of the input.

    This is bilinear, as in `post_process_semantic_segmentation` of the image processors.
    """

    def __init__(self, network: Any, *, background: bool) -> None:
        super().__init__()
        self.network = network
        self.config = network.config
        self.background = background

    def forward(self, images: Tensor) -> PixelScores:
        """(N,3,H,W) -> (N,K,H,W)"""
        logits = getattr(self.network(pixel_values=images), "logits", None)
        if logits is None or logits.ndim != 4:
            raise ModelError(
                f"{type(self.network).__name__} gives no logits (N,K,h,w): expected a network for "
                f"semantic segmentation"
            )
        size = (images.shape[2], images.shape[3])
        enlarged = interpolate(logits, size, mode="bilinear", align_corners=False)
        return PixelScores(enlarged, self.background)
