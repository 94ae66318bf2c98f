"""What is explained: a class, chosen by the network or by the user, or any differentiable score."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, SupportsIndex

import torch
from torch import Tensor

from camcli.errors import TargetError, nearest

Score = Callable[[Any], Tensor]
"""From a model's output to one differentiable score per image, (N,)."""


@dataclass(frozen=True)
class Target:
    """One parsed target: the class of a rank (1 is the best), a fixed class, or a function."""

    spec: str
    rank: int | None = None
    index: int | None = None
    function: Score | None = None

    def classes(self, output: Any) -> Tensor | None:
        """The class index of each image (N,), or None where a function gives the score."""
        if self.function is not None:
            return None
        scores = logits(output)
        highest = self.index + 1 if self.index is not None else self.rank or 1
        if highest > scores.shape[1]:
            raise TargetError(
                f"target '{self.spec}' needs {highest} classes; the model has {scores.shape[1]}"
            )
        if self.index is not None:
            return torch.full((len(scores),), self.index, device=scores.device)
        ranking: Tensor = getattr(output, "ranking", scores).detach()
        return ranking.topk(highest, dim=1).indices[:, -1]

    def score(self, output: Any, classes: Tensor | None) -> Tensor:
        """The score of each image (N,): of the given classes, or the function's."""
        if classes is not None:
            return logits(output).gather(1, classes[:, None])[:, 0]
        assert self.function is not None
        scores = self.function(output)
        if not isinstance(scores, Tensor) or scores.ndim != 1:
            given = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise TypeError(f"a target function must return a tensor (N,), got {given}")
        return scores


def parse_target(
    spec: str | SupportsIndex | Score, names: Sequence[str] | None = None, count: int | None = None
) -> Target:
    """A target from `pred`, `topK`, a class index, a class name or a function.

    `topK` is the K-th best class of each image. Names match whole and whatever their case, with
    `_` for a space allowed. `names` are the model's class names and `count` their number; without
    `count` an index is checked against the model's output. Raises TargetError.
    """
    if callable(spec):
        return Target(getattr(spec, "__name__", "score"), function=spec)
    spec = spec.strip() if isinstance(spec, str) else str(index(spec))
    if spec == "pred":
        return Target(spec, rank=1)
    if match := re.fullmatch(r"top(\d+)", spec):
        rank = int(match[1])
        if rank < 1 or (count is not None and rank > count):
            raise TargetError(f"target '{spec}': expected top1 to top{count or 'K'}")
        return Target(spec, rank=rank)
    if re.fullmatch(r"-?\d+", spec):
        if int(spec) < 0 or (count is not None and int(spec) >= count):
            upto = "" if count is None else f" to {count - 1}"
            raise TargetError(f"target {spec}: expected a class index from 0{upto}")
        return Target(spec, index=int(spec))
    return Target(spec, index=_index_of(spec, names))


def logits(output: Any) -> Tensor:
    """The class scores (N,K) in a model's output: itself, its `.logits`, or its first element."""
    scores = getattr(output, "logits", output)
    if isinstance(scores, tuple | list) and scores:
        scores = scores[0]
    if isinstance(scores, Tensor) and scores.ndim == 2:
        return scores
    given = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
    raise TargetError(
        f"the model gives {given}, not class scores (N,K): give a function as the target"
    )


def _index_of(name: str, names: Sequence[str] | None) -> int:
    if names is None:
        raise TargetError(
            f"target '{name}': this model has no class names; give an index or a labels file"
        )
    found = [i for i, known in enumerate(names) if _folded(known) == _folded(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise TargetError(
            f"target '{name}' names {len(found)} classes: "
            f"give one of the indices {', '.join(map(str, found))}"
        )
    raise TargetError(f"unknown target '{name}': did you mean {nearest(name, names)}?")


def _folded(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())
