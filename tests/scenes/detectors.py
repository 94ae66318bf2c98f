"""A tiny FCOS of torchvision, trained to find the shapes of scenes, and the maps of its objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator

from camcli import Model, explain
from camcli.capture.detections import overlaps
from tests.scenes.drawing import SHAPES, SIDE, Scene, normalised, scene
from tests.scenes.pointing import Shot, highest

BATCH = 24
LAYER = "backbone.body"
_STRIDE = 8
_FOUND = 0.5
"""The overlap from which a box is that of a thing."""


class Backbone(nn.Module):
    """Six convolutions, whose map has cells of eight pixels."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.out_channels = width
        layers: list[nn.Module] = []
        for given, stride in ((3, 2), (width, 1), (width, 2), (width, 1), (width, 2), (width, 1)):
            layers += [
                nn.Conv2d(given, width, 3, stride, 1, bias=False),
                nn.GroupNorm(4, width),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """(N,3,H,W) -> (N,C,H/8,W/8)"""
        found: Tensor = self.body(images)
        return found


def build() -> FCOS:
    """Build a detector of SHAPES for scenes, with random weights."""
    backbone = Backbone()
    return FCOS(
        backbone,
        len(SHAPES),
        min_size=SIDE,
        max_size=SIDE,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        anchor_generator=AnchorGenerator(((_STRIDE,),), ((1.0,),)),
        score_thresh=0.2,
    )


def same_shapes(count: int, seed: int) -> list[Scene]:
    """Return random scenes whose two things have the same shape."""
    draw, found = np.random.default_rng(seed), list[Scene]()
    while len(found) < count:
        one = scene(draw)
        if one.things[0].shape == one.things[1].shape:
            found.append(one)
    return found


def boxes_of(seen: Scene) -> dict[str, Tensor]:
    """Return the boxes and classes of a scene's things, as torchvision's detectors learn them."""
    boxes = torch.tensor([thing.box for thing in seen.things], dtype=torch.float32)
    labels = torch.tensor([SHAPES.index(thing.shape) for thing in seen.things])
    return {"boxes": boxes, "labels": labels}


def trained(steps: int, seed: int = 0, rate: float = 2e-3) -> FCOS:
    """Return a detector that was trained on new scenes in each step."""
    torch.manual_seed(seed)
    draw, network = np.random.default_rng(seed), build()
    optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps, pct_start=0.2)
    network.train()
    for _ in range(steps):
        seen = [scene(draw) for _ in range(BATCH)]
        losses = network([*normalised(seen)], [boxes_of(one) for one in seen])
        optimiser.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return network.eval()


def of_objects(
    network: FCOS, seen: Sequence[Scene], methods: Sequence[str]
) -> dict[str, list[Shot]]:
    """Return for each method the shots of the maps of each thing's own box.

    A scene is right if its two best boxes are its things: of their class, and overlapping by half.
    """
    model = Model(network, task="detection", num_classes=len(SHAPES))
    shots: dict[str, list[Shot]] = {method: [] for method in methods}
    found = explain(model, normalised(seen), methods, "pred#2", LAYER)
    for method, shown in zip(methods, found, strict=True):
        assert shown.boxes is not None
        assert shown.classes is not None
        for number, one in enumerate(seen):
            truth = boxes_of(one)
            share = overlaps(truth["boxes"][:, None], shown.boxes[number])
            label = truth["labels"][:, None] == shown.classes[number]
            best = (share * label).max(1)
            right = bool((best.values >= _FOUND).all())
            shots[method] += [
                Shot(number, about, method, highest(shown.maps[number, part]), right)
                for about, part in enumerate(best.indices.tolist())
            ]
    return shots
