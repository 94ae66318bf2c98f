"""The boxes that detection networks give, with their classes and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from camcli.models.hf_outputs import Queries


@dataclass(frozen=True)
class Candidates:
    """The D candidate boxes of each image, the most probable first.

    `scores` (N,D) are explained, `shares` (N,D) are probabilities, `labels` (N,D) are class
    indices, -1 for no box, and `boxes` (N,D,4) are x0, y0, x1, y1 in input pixels. `detected` (N,D)
    says which ones the network counts as objects. `absent` (N,) is the score of an object that
    is not there.
    """

    scores: Tensor
    shares: Tensor
    labels: Tensor
    boxes: Tensor
    detected: Tensor
    absent: Tensor

    def score_at(self, boxes: Tensor, labels: Tensor, shares: Tensor) -> Tensor:
        """Return the scores (N,) of the objects of classes `labels` (N,) in `boxes` (N,4).

        An object is the candidate of its class whose box overlaps its own box most, and of equal
        ones that with the closest probability. It is absent if none overlaps by half, which
        is PASCAL VOC's criterion of a correct box.
        """
        alike = self.labels == labels[:, None]
        overlap = overlaps(self.boxes, boxes[:, None]).where(alike, 0)
        most = overlap.amax(1, keepdim=True)
        distance = (self.shares - shares[:, None]).abs()
        place = distance.where(alike & (overlap == most), torch.inf).argmin(1, keepdim=True)
        scores = self.scores.gather(1, place)[:, 0]
        return scores.where(most[:, 0] >= _SAME, self.absent)


LEAST = 0.05
"""The probability above which a query is an object, as for most detectors of torchvision."""
_SAME = 0.5
"""The overlap from which two boxes are those of one object."""


def overlaps(one: Tensor, other: Tensor) -> Tensor:
    """Return the intersection over union of boxes (...,4), 0 for boxes without an area."""
    low, high = (
        torch.maximum(one[..., :2], other[..., :2]),
        torch.minimum(one[..., 2:], other[..., 2:]),
    )
    inside = (high - low).clamp(min=0).prod(-1)
    union = sum((box[..., 2:] - box[..., :2]).prod(-1) for box in (one, other)) - inside
    return inside / union.where(union > 0, 1)


def listed(output: Sequence[Mapping[str, Tensor]]) -> Candidates:
    """Return the boxes of one mapping per image, with `boxes`, `labels` and `scores`.

    A score is a probability. That of an absent object is 0.
    """
    absent = torch.stack([found["scores"].sum() * 0 for found in output])  # keeps a graph
    orders = [found["scores"].detach().argsort(descending=True, stable=True) for found in output]

    def column(name: str, nothing: float) -> Tensor:
        each = [found[name][order] for found, order in zip(output, orders, strict=True)]
        one = each[0].new_full((1, *each[0].shape[1:]), nothing)
        return pad_sequence([torch.cat([of, one]) for of in each], True, nothing)

    labels, boxes = column("labels", -1), column("boxes", 0).detach()
    scores = column("scores", 0) + absent[:, None]
    return Candidates(scores, scores.detach(), labels, boxes, labels >= 0, absent)


def of_queries(output: Queries) -> Candidates:
    """Return each class of each query as a candidate, D = Q K.

    Detected are the classes with a probability above LEAST that image processors of transformers
    choose: the best class of each query if classes are exclusive, else the best Q of all. The score
    of an absent object is the lowest one in the image.
    """
    queries, classes = output.shares.shape[1:]
    every = output.shares.detach()
    shares, order = every.flatten(1).sort(dim=1, descending=True, stable=True)
    scores = output.logits.flatten(1).gather(1, order)
    query = order // classes
    boxes = output.boxes.detach().gather(1, query[:, :, None].expand(-1, -1, 4))
    chosen = torch.arange(queries * classes, device=order.device).expand_as(order) < queries
    if output.exclusive:
        chosen = every.argmax(2).gather(1, query) == order % classes
    found = chosen & (shares > LEAST)
    return Candidates(scores, shares, order % classes, boxes, found, output.logits.amin((1, 2)))
