"""Readers of the outputs of networks.

A reader turns an output into scores and probabilities of classes, so that targets, methods and
files are the same for all networks. The background, class 0 of segmentation networks except for
some of transformers, is the best class only in an image where no other class wins a pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from camcli.capture.activations import Activation, find_activation
from camcli.capture.detections import Candidates, listed, of_queries
from camcli.capture.endings import LOG_SOFTMAX, SIGMOID, SOFTMAX, Ended, last_values, run_ended
from camcli.capture.targets import logits, own_logits
from camcli.errors import TargetError
from camcli.models.hf_outputs import PixelScores, Queries
from camcli.models.model import Model
from camcli.speed import cached_property


@dataclass(frozen=True)
class ValuesReading:
    """The K values (N,K) that a classifier or a regression gives for each image, by their meaning.

    The attributes are those of a Reading, for C classes. `alternatives` (N,C) are scores whose
    softmax are the probabilities.
    """

    values: Tensor
    activation: Activation

    @cached_property
    def logits(self) -> Tensor:
        """The scores that are explained, (N,C)."""
        return self.activation.scores(self.values)

    @property
    def ranking(self) -> Tensor:
        """The scores, which are highest for the best class, (N,C)."""
        return self.logits

    @property
    def probabilities(self) -> Tensor | None:
        """The probabilities of the classes, (N,C); None if the values are no classes."""
        found = self.activation.probabilities
        return None if found is None else found(self.values)

    @property
    def alternatives(self) -> Tensor | None:
        """Scores with the probabilities as their softmax; None if classes are independent."""
        found = self.activation.alternatives
        return None if found is None else found(self.values)


@dataclass(frozen=True)
class Reading:
    """The scores, probabilities and boxes of each class in an output.

    `logits` (N,K) are the scores that are explained. `probabilities` (N,K) lie between 0 and 1.
    `ranking` (N,K) is highest for the best class. `boxes` (N,K,4) are x0, y0, x1, y1 in input
    pixels, zero for a class without a box; None for networks that give no boxes. `find` returns
    the boxes behind them.
    """

    logits: Tensor
    probabilities: Tensor
    ranking: Tensor
    boxes: Tensor | None = None
    find: Callable[[], Candidates] | None = None

    @cached_property
    def candidates(self) -> Candidates | None:
        """The boxes of each image; None for networks that give no boxes."""
        return self.find and self.find()


@dataclass(frozen=True)
class Reader:
    """Reads the outputs of the networks of a task.

    `regions` (N,4) are x0, y0, x1, y1 in input pixels. `classes` is K, the number of classes.
    `activation` is a name in `models.options.ACTIVATIONS`.
    """

    task: str = "classification"
    classes: int | None = None
    regions: Tensor | None = None
    activation: str = "auto"

    def __post_init__(self) -> None:
        if self.regions is not None and self.task != "segmentation":
            raise TargetError(f"a region is for segmentation networks; this is a {self.task} one")

    def __call__(self, output: Any, which: Tensor | None = None) -> Any:
        """Return a reading, or the output itself where it has no class scores.

        The output is that of all images of a pass, or of images `which` (M,). Raises TargetError
        for one value per image whose meaning is unknown.
        """
        if self.task == "segmentation":
            regions = self.regions
            return segmented(
                output, regions[which] if which is not None and regions is not None else regions
            )
        if self.task == "detection":
            assert self.classes is not None
            found = last_values(output)
            return queried(found) if isinstance(found, Queries) else detected(found, self.classes)
        return valued(output, self.activation) if self.task == "classification" else output

    @property
    def endings(self) -> frozenset[str]:
        """The functions whose input is the score where a network ends in them; see `endings`."""
        if self.task == "segmentation":
            return frozenset({SOFTMAX, LOG_SOFTMAX})
        return ENDINGS[self.activation] if self.task == "classification" else frozenset()

    def values_in(self, output: Any) -> Tensor | None:
        """Return the values of classes in an output, (N,K) or (N,K,H,W); None if it has none."""
        if self.task == "segmentation":
            dense = output.get("out") if isinstance(output, Mapping) else output
            return dense if isinstance(dense, Tensor) else None
        try:
            return own_logits(output)
        except TargetError:
            return None

    def run(self, module: nn.Module, forward: Callable[[], Any]) -> Any:
        """Return the output of a forward pass of a network, as Ended if it ends in `endings`."""
        return run_ended(module, forward, self.values_in, self.endings)

    def read(self, module: nn.Module, images: Tensor) -> Any:
        """Run a network on images, and return the reading of its output."""
        return self(self.run(module, lambda: module(images)))


ENDINGS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "auto": frozenset({SOFTMAX, LOG_SOFTMAX, SIGMOID}),
        "softmax": frozenset({SOFTMAX, LOG_SOFTMAX}),
        "sigmoid": frozenset({SIGMOID}),
        "none": frozenset(),
    }
)
"""The functions at the end of a network that each activation in `models.options.ACTIVATIONS` takes
for itself. The values of a network that ends in another one are scores."""


def reader_of(model: Model, regions: Tensor | None = None) -> Reader:
    """Return the reader of a model's outputs, for `regions` (N,4) of a segmentation network."""
    return Reader(model.task, model.num_classes, regions, model.activation)


def valued(output: Any, activation: str) -> Any:
    """Read the values (N,K) or (N,) in an output; return the output itself if it has none."""
    try:
        values = logits(output)
    except TargetError:  # a target that is a function or a class of its own may read the output
        return output
    several = values.shape[1] > 1
    if activation == "auto" and several and isinstance(output, Ended) and output.kind == SIGMOID:
        activation = "sigmoid"
    return ValuesReading(values, find_activation(activation, values.shape[1]))


def dense_scores(output: Any) -> Tensor:
    """Return class scores for every pixel, (N,K,H,W): an output, or its `out` or `logits`."""
    values = last_values(output)
    if isinstance(values, PixelScores):
        return values.logits
    dense: Tensor = values["out"] if isinstance(values, Mapping) else values
    return dense


def segmented(output: Any, regions: Tensor | None = None) -> Reading:
    """Read class scores for every pixel, (N,K,H,W), in an output.

    A class's score is the sum of its scores over the pixels where it is the best class
    (Vinogradova et al. 2020, Seg-Grad-CAM, arXiv:2002.11434, eq. 2), or over `regions` (N,4). Its
    probability is the mean over the same pixels. Its ranking is the number of pixels that it wins.
    Raises TargetError for a single class, whose softmax would be 1 everywhere.
    """
    dense = dense_scores(output)
    if dense.shape[1] < 2:
        raise TargetError(
            "the segmentation network gives one score for each pixel: expected one for each of 2 "
            "classes or more, with a softmax"
        )
    won = dense.detach().argmax(1, keepdim=True) == torch.arange(
        dense.shape[1], device=dense.device
    ).view(1, -1, 1, 1)
    area = won
    if regions is not None:
        area = _pixels_inside(regions, *dense.shape[2:])[:, None].expand_as(won)
        won = won & area
    soft = dense.detach().softmax(1)
    ranking = won.sum((2, 3)).to(dense.dtype)
    if not isinstance(output, PixelScores) or output.background:
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
    return Reading(scores, scores.detach(), scores.detach(), boxes, partial(listed, output))


def queried(output: Queries) -> Reading:
    """Read the queries of a detector: a class has the score of its most probable one."""
    shares, best = output.shares.detach().max(1)
    scores = output.logits.gather(1, best[:, None])[:, 0]
    boxes = output.boxes.detach().gather(1, best[:, :, None].expand(-1, -1, 4))
    return Reading(scores, shares, shares, boxes, partial(of_queries, output))


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
