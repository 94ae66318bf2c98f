"""Targets with several parts, such as every class above a probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from camcli.capture.targets import Target, WeightedClasses, logits
from camcli.errors import TargetError


class PartedTarget(Target):
    """A target with several parts of which an image may have any number, each with its class.

    The results of the parts have names that begin with `prefix`.
    """

    several: ClassVar[bool] = True

    @property
    def prefix(self) -> str:
        """The beginning of the names of parts. No other target has such a name."""
        raise NotImplementedError

    def part_name(self, part: int, class_name: str) -> str:
        """Return the name of a part, by its place among the parts from 0 and its class."""
        raise NotImplementedError

    def possible_names(self, class_names: Sequence[str]) -> list[str]:
        """Return the names of all parts that an image may have. Raises TargetError."""
        raise NotImplementedError

    def is_there(self, classes: Tensor, probabilities: Tensor) -> Tensor:
        """Return whether an image has a part, by the parts' classes and probabilities."""
        raise NotImplementedError


@dataclass(frozen=True)
class ClassesAbove(PartedTarget):
    """Every class of an image with a probability above `threshold`, the most probable first.

    The parts for P classes are resolved, where P is the largest number of them in the batch, and at
    least 1.
    """

    spec: str
    threshold: float

    def resolve(self, output: Any) -> tuple[WeightedClasses, ...]:
        scores, shares = logits(output).detach(), output.probabilities
        if shares is None:
            raise TargetError(
                f"target '{self.spec}' does not apply to {output.activation.meaning}: they have no "
                f"probabilities"
            )
        count = max(1, int((shares > self.threshold).sum(1).max()))
        best = shares.topk(count, dim=1).indices
        return tuple(
            WeightedClasses(self.spec, one[:, None], torch.ones_like(scores[:, :1]))
            for one in best.unbind(1)
        )

    @property
    def prefix(self) -> str:
        return f"{self.spec}:"

    def part_name(self, part: int, class_name: str) -> str:
        return self.prefix + class_name

    def possible_names(self, class_names: Sequence[str]) -> list[str]:
        if not class_names:
            raise TargetError(
                f"target '{self.spec}' needs the number of classes, which this network does not "
                f"have: give --labels"
            )
        return [self.prefix + name for name in class_names]

    def is_there(self, classes: Tensor, probabilities: Tensor) -> Tensor:
        return probabilities > self.threshold
