"""Readers of the outputs of segmentation and detection networks.

A reader turns an output into a Reading with one score for each class, so that targets, methods and
files are the same as for classification. The background, class 0 of torchvision's segmentation
networks, is the best class only in an image where no other class wins a pixel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from camcli.errors import TargetError


@dataclass(frozen=True)
class Reading:
    """The scores, probabilities and boxes of each class in an output.

    `logits` (N,K) are the scores that are explained. `probabilities` (N,K) lie between 0 and 1.
    `ranking` (N,K) is highest for the best class. `boxes` (N,K,4) are x0, y0, x1, y1 in input
    pixels, zero for a class without a box; None for networks that give no boxes.
    """

    logits: Tensor
    probabilities: Tensor
    ranking: Tensor
    boxes: Tensor | None = None


@dataclass(frozen=True)
class Reader:
    """Reads the outputs of the networks of a task.

    `regions` (N,4) are x0, y0, x1, y1 in input pixels. `classes` is K, the number of classes.
    """

    task: str = "classification"
    classes: int | None = None
    regions: Tensor | None = None

    def __post_init__(self) -> None:
        if self.regions is not None and self.task != "segmentation":
            raise TargetError(f"a region is for segmentation networks; this is a {self.task} one")

    def __call__(self, output: Any, which: Tensor | None = None) -> Any:
        """Return a Reading, or the output itself where the network gives scores per image.

        The output is that of all images of a pass, or of images `which` (M,).
        """
        if self.task == "segmentation":
            regions = self.regions
            return segmented(
                output, regions[which] if which is not None and regions is not None else regions
            )
        if self.task == "detection":
            assert self.classes is not None
            return detected(output, self.classes)
        return output


def segmented(output: Any, regions: Tensor | None = None) -> Reading:
    """Read class scores for every pixel, (N,K,H,W), or a mapping that holds them as `out`.

    A class's score is the sum of its scores over the pixels where it is the best class
    (Vinogradova et al. 2020, Seg-Grad-CAM, arXiv:2002.11434, eq. 2), or over `regions` (N,4). Its
    probability is the mean over the same pixels. Its ranking is the number of pixels that it wins.
    """
    dense = output["out"] if isinstance(output, Mapping) else output
    won = dense.detach().argmax(1, keepdim=True) == torch.arange(
        dense.shape[1], device=dense.device
    ).view(1, -1, 1, 1)
    area = won
    if regions is not None:
        area = _pixels_inside(regions, *dense.shape[2:])[:, None].expand_as(won)
        won = won & area
    soft = dense.detach().softmax(1)
    ranking = won.sum((2, 3)).to(dense.dtype)
    ranking[:, 0] = 0.5
    return Reading(
        logits=(dense * area).sum((2, 3)),
        probabilities=(soft * area).sum((2, 3)) / area.sum((2, 3)).clamp(min=1),
        ranking=ranking,
    )


def detected(output: Sequence[Mapping[str, Tensor]], classes: int) -> Reading:
    """Read one mapping per image, with `boxes` (B,4), `labels` (B,) and `scores` (B,).

    A class's score and probability are those of its best box, and 0 where it has none.
    """
    best = [_best_boxes(found, classes) for found in output]
    scores, boxes = (torch.stack(parts) for parts in zip(*best, strict=True))
    return Reading(scores, scores.detach(), scores.detach(), boxes)


def _best_boxes(found: Mapping[str, Tensor], classes: int) -> tuple[Tensor, Tensor]:
    """Return the best score (K,) of each class in an image and the box (K,4) of that score."""
    scores, boxes = found["scores"], found["boxes"].detach()
    nothing = scores.sum() * 0  # keeps a graph for an image without boxes
    if not len(scores):
        return nothing.expand(classes), boxes.new_zeros(classes, 4)
    of_class = found["labels"] == torch.arange(classes, device=scores.device)[:, None]
    best = scores.detach().expand_as(of_class).masked_fill(~of_class, -1).argmax(1)
    has = of_class.any(1)
    return torch.where(has, scores[best], nothing), boxes[best] * has[:, None]


def _pixels_inside(regions: Tensor, height: int, width: int) -> Tensor:
    """Return whether the centre of a pixel lies in each region, (N,H,W)."""
    x, y = (torch.arange(n, device=regions.device) + 0.5 for n in (width, height))
    x0, y0, x1, y1 = regions[:, :, None].unbind(1)
    rows, columns = (y >= y0) & (y < y1), (x >= x0) & (x < x1)
    return rows[:, :, None] & columns[:, None, :]
