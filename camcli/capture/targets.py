"""What is explained: a class, chosen by the network or by the user, or any differentiable score."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import index
from typing import Any, SupportsIndex

import torch
from torch import Tensor

from camcli.errors import TargetError, nearest
from camcli.models.precision import at_least_float32

Score = Callable[[Any], Tensor]
"""From a model's output to one differentiable score per image, (N,)."""


FORMS = ("finer", "not")
"""What may be put before a class: what sets it apart from its like, and what speaks against it."""


@dataclass(frozen=True)
class Terms:
    """A score as a sum over J classes: the scores of `classes` (N,J) times `factors` (N,J).

    The first class is the one that is explained.
    """

    classes: Tensor
    factors: Tensor

    def of(self, which: Tensor) -> Terms:
        """The terms for images `which` of the batch."""
        return Terms(self.classes[which], self.factors[which])


@dataclass(frozen=True)
class Target:
    """One parsed target: the class of a rank (1 is the best), a fixed class, or a function.

    `classes` (N,) is a fixed class for each image. `form` is one of FORMS, or empty for the class
    itself.
    """

    spec: str
    rank: int | None = None
    index: int | None = None
    classes: Tensor | None = None
    function: Score | None = None
    form: str = ""

    def terms(self, output: Any) -> Terms | None:
        """What is summed up for each image, or None where a function gives the score.

        `not` is `-S`; its Grad-CAM is the paper's counterfactual explanation (arXiv:1610.02391,
        sec. 3.3). `finer` is `sum_i p_i (S - S_i) / sum_i p_i` over the three other classes whose
        scores are closest, p their probabilities, which are held fixed (arXiv:2501.11309).
        """
        if self.function is not None:
            return None
        scores = logits(output).detach()
        ranking: Tensor = getattr(output, "ranking", scores).detach()
        classes = self._classes(ranking)[:, None]
        own = torch.ones_like(classes, dtype=scores.dtype)
        if self.form != "finer":
            return Terms(classes, -own if self.form == "not" else own)
        if scores.shape[1] < 2:
            raise TargetError(f"target '{self.spec}' needs 2 classes; the model has 1")
        distance = (scores - scores.gather(1, classes)).abs().scatter(1, classes, torch.inf)
        near = distance.topk(min(3, scores.shape[1] - 1), largest=False).indices
        shares = scores.gather(1, near).softmax(1)  # p_i / sum_i p_i, also where all p_i underflow
        return Terms(torch.cat([classes, near], 1), torch.cat([own, -shares], 1))

    def score(self, output: Any, terms: Terms | None) -> Tensor:
        """The score of each image (N,): the sum of the terms, or the function's."""
        if terms is not None:
            return (logits(output).gather(1, terms.classes) * terms.factors).sum(1)
        assert self.function is not None
        scores = self.function(output)
        if not isinstance(scores, Tensor) or scores.ndim != 1:
            given = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise TypeError(f"a target function must return a tensor (N,), got {given}")
        return scores

    def _classes(self, ranking: Tensor) -> Tensor:
        """The class index of each image (N,), of the best classes by their `ranking` (N,K)."""
        if self.classes is not None:
            return self._given(ranking)
        highest = self.index + 1 if self.index is not None else self.rank or 1
        if highest > ranking.shape[1]:
            raise TargetError(
                f"target '{self.spec}' needs {highest} classes; the model has {ranking.shape[1]}"
            )
        if self.index is not None:
            return torch.full((len(ranking),), self.index, device=ranking.device)
        return ranking.topk(highest, dim=1).indices[:, -1]

    def _given(self, ranking: Tensor) -> Tensor:
        assert self.classes is not None
        classes = self.classes.to(ranking.device, torch.long)
        if len(classes) != len(ranking):
            raise TargetError(f"{len(classes)} classes as target for {len(ranking)} images")
        if bool(((classes < 0) | (classes >= ranking.shape[1])).any()):
            raise TargetError(
                f"target {self.spec}: expected indices from 0 to {ranking.shape[1] - 1}"
            )
        return classes


def parse_target(
    spec: str | SupportsIndex | Score, names: Sequence[str] | None = None, count: int | None = None
) -> Target:
    """A target from `pred`, `topK`, a class index, a class name or a function.

    `topK` is the K-th best class of each image, and a tensor (N,) holds an index for each. `finer:`
    and `not:` before a text explain what sets the class apart from those most like it, and what
    speaks against it (see `Target.terms`); alone they take `pred`. Names match whole and whatever
    their case, with `_` for a space allowed. `names` are the model's class names and `count` their
    number; without `count` an index is checked against the model's output. Raises TargetError.
    """
    if isinstance(spec, Tensor) and spec.ndim == 1:
        return Target("classes", classes=spec)
    if callable(spec):
        return Target(getattr(spec, "__name__", "score"), function=spec)
    spec = spec.strip() if isinstance(spec, str) else str(index(spec))
    form, _, base = spec.partition(":")
    if form in FORMS:
        target = parse_target(base.strip() or "pred", names, count)
        if target.form:
            raise TargetError(f"target '{spec}': expected one of {', '.join(FORMS)}, not both")
        return replace(target, spec=spec, form=form)
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
    """The class scores (N,K) in a model's output: itself, its `.logits`, or its first element.

    Those of half precision as float32.
    """
    scores = getattr(output, "logits", output)
    if isinstance(scores, tuple | list) and scores:
        scores = scores[0]
    if isinstance(scores, Tensor) and scores.ndim == 2:
        return at_least_float32(scores)
    given = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
    raise TargetError(
        f"the model gives {given}, not class scores (N,K): give a function as the target"
    )


def _index_of(name: str, names: Sequence[str] | None) -> int:
    if names is None:
        raise TargetError(
            f"target '{name}': this model has no class names; give an index or a labels file"
        )
    found = [i for i, known in enumerate(names) if folded(known) == folded(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise TargetError(
            f"target '{name}' names {len(found)} classes: "
            f"give one of the indices {', '.join(map(str, found))}"
        )
    raise TargetError(f"unknown target '{name}': did you mean {nearest(name, names)}?")


def folded(name: str) -> str:
    """A class name as names are compared: whatever its case, with `_` for a space."""
    return " ".join(name.replace("_", " ").casefold().split())
