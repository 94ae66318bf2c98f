"""The network's prediction for each image, beside the image's true class."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

from camcli.capture.targets import best_among
from camcli.runs.class_map import Label
from camcli.runs.manifest import Row

UNSURE = 0.2
"""A network is unsure of an image if the probability of its best class is below this."""
_BEST = 5
"""The number of best classes of which one must be a true one for `top5`. A network with no more
classes has no `top5`."""

TRUTH = ("true_index", "true_name", "correct", "top5")
"""The fields of a row that depend on the true class."""


class Prediction(NamedTuple):
    """The network's best class and the true one, as fields of a manifest row, None if unknown.

    `true_index` is the best-scoring one of several true classes. `correct` says whether the best
    class is a true one, `top5` whether one of the five best classes is.
    """

    predicted_index: int | None = None
    predicted_name: str | None = None
    confidence: float | None = None
    true_index: int | None = None
    true_name: str | None = None
    correct: bool | None = None
    top5: bool | None = None

    @property
    def unsure(self) -> bool | None:
        """Whether the network is unsure of the image; None if no class has a probability."""
        return None if self.confidence is None else self.confidence < UNSURE


def prediction_of(row: Row) -> Prediction:
    """Return the prediction in a manifest row."""
    return Prediction(*(row.get(field) for field in Prediction._fields))


def no_prediction(label: Label) -> Prediction:
    """Return what a label alone tells of an image."""
    (first, *more) = label.classes or (None,)
    return Prediction(
        true_index=None if more else first, true_name=label.name if label.classes else None
    )


def predictions(
    ranking: Tensor, confidences: Tensor, labels: Sequence[Label], names: Sequence[str] | None
) -> Iterator[Prediction]:
    """Yield the prediction for each image of a batch.

    `ranking` (N,K) is highest for the best class, whose probability is in `confidences` (N,).
    `names` are those of the classes.
    """
    best, shares = ranking.topk(1).indices[:, 0].tolist(), confidences.tolist()
    for label, index, share, (true, better) in zip(
        labels, best, shares, _ranks(ranking, labels), strict=True
    ):
        found = no_prediction(label)
        if math.isfinite(share):
            name = names[index] if names else None
            found = found._replace(predicted_index=index, predicted_name=name, confidence=share)
        if math.isfinite(share) and label.classes:
            right = index in label.classes
            near = better < _BEST if ranking.shape[1] > _BEST else None
            found = found._replace(true_index=true, correct=right, top5=near)
        yield found


def _ranks(ranking: Tensor, labels: Sequence[Label]) -> Sequence[tuple[int, int]]:
    """Return for each image the best true class, and the number of classes that are better."""
    classes = [label.classes for label in labels]
    if not any(classes):
        return [(-1, 0)] * len(labels)
    ranking = ranking.cpu()
    true = best_among(ranking, classes)
    better = ranking > ranking.gather(1, true.clamp(min=0)[:, None])
    return [*zip(true.tolist(), better.sum(1).tolist(), strict=True)]
