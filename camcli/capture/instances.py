"""The target of single objects: each detected box of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from camcli.capture.detections import Candidates
from camcli.capture.parted import ClassesAbove, PartedTarget
from camcli.capture.targets import ClassTarget, Target
from camcli.errors import TargetError

MOST = 300
"""The most objects of an image that are explained."""
ALL = "all"


@dataclass(frozen=True)
class Instance(Target):
    """The resolved target of one object of each image: its score, found again by class and box.

    `labels` (N,) are class indices, -1 for an image without the object, `shares` (N,) are
    probabilities, and `corners` (N,4) are boxes.
    """

    spec: str
    labels: Tensor
    shares: Tensor
    corners: Tensor

    def score(self, output: Any) -> Tensor:
        found: Candidates = output.candidates
        return found.score_at(self.corners, self.labels, self.shares)

    def select(self, which: Tensor) -> Instance:
        return Instance(self.spec, self.labels[which], self.shares[which], self.corners[which])

    @property
    def classes(self) -> Tensor:
        return self.labels

    @property
    def probabilities(self) -> Tensor:
        return self.shares

    @property
    def boxes(self) -> Tensor:
        return self.corners


@dataclass(frozen=True)
class Instances(PartedTarget):
    """Each object that a detection network finds in an image, the most probable first.

    These are the objects of the class of `base`. They are those of all classes if `base` is `pred`,
    and those with a probability above its threshold for a target `p>T`. `most` limits their number;
    None is all, up to MOST. An image without the P-th object has the class -1 there.
    """

    base: ClassTarget | ClassesAbove
    most: int | None = None

    @property
    def spec(self) -> str:  # type: ignore[override] # of results: the number of an object follows
        return f"{self.base.spec}#"

    @property
    def written(self) -> str:
        return f"{self.spec}{self.most or ALL}"

    @property
    def prefix(self) -> str:
        return self.spec

    def resolve(self, output: Any) -> tuple[Instance, ...]:
        found: Candidates | None = getattr(output, "candidates", None)
        if found is None:
            raise TargetError(
                f"target '{self.written}' is for detection networks, which give a box for each "
                f"object: expected a class"
            )
        wanted = self._wanted(output, found)
        count = int(wanted.sum(1).max())
        if self.most is None and count > MOST:
            raise TargetError(
                f"target '{self.written}': {count} objects in an image: expected at most {MOST}; "
                f"limit them by a number, or by a probability as in p>0.5"
            )
        count = max(1, min(count, self.most or MOST))
        order = wanted.byte().argsort(dim=1, descending=True, stable=True)[:, :count]
        labels, boxes = found.labels.where(wanted, -1), found.boxes * wanted[:, :, None]
        images = torch.arange(len(order), device=order.device)
        return tuple(
            Instance(self.spec, *(of[images, place] for of in (labels, found.shares, boxes)))
            for place in order.unbind(1)
        )

    def _wanted(self, output: Any, found: Candidates) -> Tensor:
        """Return which candidates are among the objects, (N,D)."""
        if isinstance(self.base, ClassesAbove):
            return found.detected & (found.shares > self.base.threshold)
        if self.base.spec == "pred":
            return found.detected
        (best,) = self.base.resolve(output)
        return found.detected & (found.labels == best.classes[:, None])

    def part_name(self, part: int, class_name: str) -> str:
        return f"{self.spec}{part + 1:0{len(str(self.most or MOST))}d}"

    def possible_names(self, class_names: Sequence[str]) -> list[str]:
        return [self.part_name(part, "") for part in range(self.most or MOST)]

    def is_there(self, classes: Tensor, probabilities: Tensor) -> Tensor:
        return classes >= 0
