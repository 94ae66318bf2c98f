"""The box of a class in a detection network's output, against loops over the boxes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import camcli
from camcli.capture.readers import detected
from camcli.models.model import Model

CLASSES = 5
_KEYS = ("labels", "scores", "boxes")
Output = list[dict[str, Tensor]]


class Detector(nn.Module):
    """A detector that gives each image its own boxes, sorted by score; some classes have several.

    Images whose first pixel is negative have no box.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4, 7)

    def forward(self, images: Tensor) -> Output:
        return self.boxes(self.trunk(images).relu(), images)

    def boxes(self, activations: Tensor, images: Tensor) -> Output:
        scores = self.head(activations.mean((2, 3))).sigmoid()
        output, corners = [], torch.arange(28).view(7, 4).to(images)
        for image, score in zip(images, scores, strict=True):
            order = score.argsort(descending=True)[: 7 if image[0, 0, 0] >= 0 else 0]
            labels = torch.tensor([1, 2, 1, 3, 2, 1, 3])[order]
            output.append({"scores": score[order], "labels": labels, "boxes": corners[order]})
        return output


def best_box(found: dict[str, Tensor], label: int) -> tuple[float, list[float]]:
    """Return the highest score of a class and the box that has it; the first one of equal boxes."""
    score, box = -math.inf, [0.0] * 4
    for own, value, corners in zip(*(found[k].tolist() for k in _KEYS), strict=True):
        if own == label and value > score:
            score, box = value, corners
    return max(score, 0.0), box


def test_the_boxes_of_classes_equal_a_slow_reference() -> None:
    """Up to nine boxes in any order, with equal scores, scores of 0 and equal boxes."""
    random = np.random.default_rng(5)
    output: Output = []
    for i in range(60):
        count = i % 10
        corners = random.integers(0, 4, (count, 4)) + np.array([0.0, 0, 4, 4])
        output.append(
            {
                "scores": torch.from_numpy(random.integers(0, 4, count) / 3),
                "labels": torch.from_numpy(random.integers(1, CLASSES, count)),
                "boxes": torch.from_numpy(corners),
            }
        )
    reading = detected(output, CLASSES)
    assert reading.boxes is not None
    for n, found in enumerate(output):
        for label in range(CLASSES):
            score, box = best_box(found, label)
            for part in (reading.logits, reading.probabilities, reading.ranking):
                assert float(part[n, label]) == score
            assert reading.boxes[n, label].tolist() == box


@pytest.mark.parametrize("target", ["pred", "top2", "top3", 1, 4])
def test_a_detected_class_is_explained_by_its_best_box(target: str | int) -> None:
    torch.manual_seed(0)
    net = Detector().double()
    images = torch.randn(6, 3, 21, 17).double()
    images[:, 0, 0, 0] = torch.tensor([1, 1, -1, 1, 1, 1])
    model = Model(net, task="detection", num_classes=CLASSES)
    shown = camcli.explain(model, images, "gradcam", target, layer="trunk")
    assert shown.classes is not None
    assert shown.probabilities is not None
    assert shown.boxes is not None
    for n in range(6):
        activations = net.trunk(images[n : n + 1]).detach().requires_grad_()
        (found,) = net.boxes(activations.relu(), images[n : n + 1])
        scores = [best_box(found, label)[0] for label in range(CLASSES)]
        ranked = sorted(range(CLASSES), key=lambda k: -scores[k])
        place = 0 if target == "pred" else int(str(target)[-1]) - 1
        label = target if isinstance(target, int) else ranked[place]
        score, box = best_box(found, label)
        if score or isinstance(target, int):
            assert int(shown.classes[n]) == label
        assert float(shown.scores[n]) == pytest.approx(score)
        assert float(shown.probabilities[n]) == pytest.approx(score)
        assert shown.boxes[n].tolist() == box
        if not score:
            assert not shown.maps[n].any()
            continue
        own = found["scores"][found["labels"] == label].max()
        (gradient,) = torch.autograd.grad(own, activations)
        expected = (gradient.mean((2, 3), keepdim=True) * activations).sum(1).relu()
        torch.testing.assert_close(shown.maps[n], expected[0].detach())
