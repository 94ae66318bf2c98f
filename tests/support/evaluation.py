"""Networks, a study and scores for the tests of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from camcli.evaluation.scores import BatchScores, ExplainedClass, Scores
from camcli.evaluation.study import Study
from camcli.images.source import Source
from camcli.models.model import Model
from tests.support.networks import GapNet

TINY = ("--model", "tests.support.networks:GapNet", "--device", "cpu", "--curve-steps", 4)
COLOURS = ("--model", "tests.support.evaluation:Colours", "--device", "cpu")
BLOBS = ("--model", "tests.support.evaluation:Blobs", "--device", "cpu")
SIZES = {"a.png": (70, 90), "b.png": (80, 60), "c.png": (66, 66), "d.png": (70, 90)}
BOXES = {  # by photo; the class map of `ground_truth` gives "red" and "blue" classes 0 to 4
    "a.png": [("red", (4, 6, 40, 50)), ("red", (50, 8, 80, 60)), ("blue", (0, 0, 10, 10))],
    "b.png": [("red", (10, 20, 30, 70)), ("blue", (12, 22, 60, 60))],
    "c.png": [("green", (0, 0, 60, 60))],
}


class DeadLayer(GapNet):
    """A network whose last layer is zero for every image."""

    def __init__(self) -> None:
        super().__init__()
        torch.nn.init.constant_(self.last[0].bias, -100)


class Colours(nn.Module):
    """A network that knows red, green, blue and black photos, and where they are."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(3, 3, 1, bias=False)
        self.last = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.ReLU())
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 4, bias=False)
        with torch.no_grad():
            self.trunk.weight.copy_(torch.eye(3)[:, :, None, None])
            self.last[0].weight.zero_()[:, :, 0, 0] = torch.cat([torch.eye(3), -torch.ones(1, 3)])
            self.last[0].bias.copy_(torch.tensor([0.0, 0, 0, -3]))  # so that only black is black
            self.fc.weight.copy_(3 * torch.eye(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pool(self.last(self.trunk(x))).flatten(1))


class Blobs(GapNet):
    """A random network whose maps differ between photos and between classes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        for module in (self.trunk[0], self.last[0], self.fc):
            torch.nn.init.normal_(module.weight, std=0.5)
            torch.nn.init.normal_(module.bias, std=0.1)


def sources_of(folder: Path) -> list[Source]:
    return [Source(path, Path(path.name)) for path in sorted(folder.iterdir())]


def scores_of(
    methods: Sequence[str],
    values: dict[str, NDArray[np.float64]],
    traces: dict[str, NDArray[np.float64]] | None = None,
) -> Scores:
    """Return scores with the given values by metric, (M,n) for the methods and the baselines."""
    count = next(iter(values.values())).shape[1]
    sources = [Source(Path(str(i)), Path(str(i))) for i in range(count)]
    scores = Scores(Study(sources, Model(GapNet()), tuple(methods), tuple(values)))
    classes = [ExplainedClass(0, 0.5)] * count
    scores.add(BatchScores(range(count), classes, values, traces or {}))
    return scores
