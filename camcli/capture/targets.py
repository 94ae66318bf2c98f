"""Targets: the explained quantity, as one differentiable score for each image.

A new kind of target is one subclass of `Target`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import index
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, SupportsIndex, TypeAlias

import torch
from torch import Tensor

from camcli.capture.activations import SOFTMAX, VALUE
from camcli.capture.forms import FORMS, class_itself
from camcli.errors import TargetError, nearest
from camcli.models.precision import at_least_float32

Score = Callable[[Any], Tensor]
"""From a model's output to one differentiable score per image, (N,)."""


class ExplainedText(NamedTuple):
    """A text about an image whose score is explained, and its probability.

    `answers` are the network's own texts, the best first. `words` are the words of this text where
    each has a map. Both come with their probabilities.
    """

    text: str
    probability: float
    answers: tuple[tuple[str, float], ...] = ()
    words: tuple[tuple[str, float], ...] = ()


class Target:
    """The explained quantity: a score for each image of a batch.

    A subclass defines `spec`, the target's name in file names and manifest rows, and `score`, or
    `resolve` if the score depends on the images. The other defaults suit a score that is the same
    function of every image's output.
    """

    spec: str
    raw: ClassVar[bool] = False
    """Whether `score` takes the network's own output instead of its reading (see `readers`)."""
    several: ClassVar[bool] = False
    """Whether an image has several maps, one for each part of the target."""

    def score(self, output: Any) -> Tensor:
        """Return the score of each image, (N,), with its graph."""
        raise NotImplementedError

    def resolve(self, output: Any) -> Sequence[Target]:
        """Return the targets to differentiate, after choosing what depends on the images.

        `output` is the network's output for the batch. A target such as `pred` returns the class of
        each image. A target with several parts returns one target for each part.
        """
        return (self,)

    def select(self, which: Tensor) -> Target:
        """Return the resolved target for images `which` (M,) of the batch."""
        return self

    @property
    def classes(self) -> Tensor | None:
        """The class explained for each image, (N,); None if the resolved target is not a class."""
        return None

    @property
    def texts(self) -> tuple[ExplainedText, ...] | None:
        """The text explained for each image; None if the resolved target is not a text."""
        return None

    @property
    def record(self) -> Mapping[str, Any] | None:
        """The settings of the score beside `spec`, for run.json; None if there are none."""
        return None


TargetLike: TypeAlias = str | SupportsIndex | Score | Target
"""A target as a user gives it. A tensor (N,) holds a class index for each image."""


@dataclass(frozen=True)
class FunctionTarget(Target):
    """A function from the model's output to one score per image (N,)."""

    spec: str
    function: Score
    raw: ClassVar[bool] = True

    def score(self, output: Any) -> Tensor:
        scores = self.function(output)
        if not isinstance(scores, Tensor) or scores.ndim != 1:
            given = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise TypeError(f"a target function must return a tensor (N,), got {given}")
        return scores


@dataclass(frozen=True)
class WeightedClasses(Target):
    """A resolved class target: for each image the sum over J `indices` (N,J) of `factors` (N,J)
    times class scores. The first index is the class that is explained."""

    spec: str
    indices: Tensor
    factors: Tensor

    def score(self, output: Any) -> Tensor:
        return (logits(output).gather(1, self.indices) * self.factors).sum(1)

    def select(self, which: Tensor) -> WeightedClasses:
        return WeightedClasses(self.spec, self.indices[which], self.factors[which])

    @property
    def classes(self) -> Tensor:
        return self.indices[:, 0]

    @property
    def is_plain(self) -> bool:
        """True if the score is the unchanged score of one class."""
        return self.indices.shape[1] == 1 and bool((self.factors == 1).all())


@dataclass(frozen=True)
class ClassTarget(Target):
    """The class of a rank (1 is the best), a fixed class, or a class for each image (N,).

    `form` is a name in FORMS, or empty for the class itself.
    """

    spec: str
    rank: int = 1
    index: int | None = None
    given: Tensor | None = None
    form: str = ""

    def resolve(self, output: Any) -> tuple[WeightedClasses]:
        scores = logits(output).detach()
        ranking: Tensor = getattr(output, "ranking", scores).detach()
        form = FORMS[self.form] if self.form else class_itself
        ranked = self.index is None and self.given is None
        activation = getattr(output, "activation", SOFTMAX)
        activation.check(self.spec, ranked=ranked, finer=self.form == "finer")
        return (WeightedClasses(self.spec, *form(scores, self._classes(ranking)[:, None])),)

    def _classes(self, ranking: Tensor) -> Tensor:
        """Return the class index of each image (N,), by the classes' `ranking` (N,K)."""
        if self.given is not None:
            return self._checked(self.given.to(ranking.device, torch.long), ranking)
        highest = self.rank if self.index is None else self.index + 1
        if highest > ranking.shape[1]:
            raise TargetError(
                f"target '{self.spec}' needs {highest} classes; the model has {ranking.shape[1]}"
            )
        if self.index is not None:
            return torch.full((len(ranking),), self.index, device=ranking.device)
        return ranking.topk(highest, dim=1).indices[:, -1]

    def _checked(self, classes: Tensor, ranking: Tensor) -> Tensor:
        if len(classes) != len(ranking):
            raise TargetError(f"{len(classes)} classes as target for {len(ranking)} images")
        if bool(((classes < 0) | (classes >= ranking.shape[1])).any()):
            raise TargetError(
                f"target {self.spec}: expected indices from 0 to {ranking.shape[1] - 1}"
            )
        return classes


@dataclass(frozen=True)
class ValueTarget(Target):
    """The only value of a regression, times `sign`."""

    spec: str
    sign: int = 1

    def resolve(self, output: Any) -> tuple[WeightedClasses]:
        values, activation = logits(output).detach(), getattr(output, "activation", SOFTMAX)
        if activation is not VALUE:
            raise TargetError(
                f"target '{self.spec}' is for a network of one value (--activation none), and this "
                f"one gives {activation.meaning}: expected an index, a name, or pred for classes"
            )
        first = torch.zeros_like(values, dtype=torch.long)
        return (WeightedClasses(self.spec, first, self.sign * torch.ones_like(values)),)


VALUE_TARGETS: Mapping[str, int] = MappingProxyType({"score": 1, "+score": 1, "-score": -1})
"""The targets of a regression with one value, and their signs."""


def parse_target(
    spec: TargetLike,
    names: Sequence[str] | None = None,
    count: int | None = None,
) -> Target:
    """Return the target that a user gave; a Target is returned as it is.

    `pred` is the best class of each image, `topK` the K-th best. A class index or class name is the
    same class for all images, and a tensor (N,) of indices is one class for each. A name in FORMS
    and a colon may precede a class; alone, as in `not:`, they apply to `pred`. The names in
    VALUE_TARGETS are the value of a regression, unless a class has this name. A function from the
    model's output to scores (N,) explains that score. Class names match as a whole, ignore case,
    and `_` matches a space. `names` are the model's class names and `count` their number; without
    `count` an index is checked against the model's output. Raises TargetError.
    """
    if isinstance(spec, Target):
        return spec
    if isinstance(spec, Tensor) and spec.ndim == 1:
        return ClassTarget("classes", given=spec)
    if callable(spec):
        return FunctionTarget(getattr(spec, "__name__", "score"), spec)
    spec = spec.strip() if isinstance(spec, str) else str(index(spec))
    form, _, base = spec.partition(":")
    if spec in VALUE_TARGETS and spec not in map(folded, names or ()):
        return ValueTarget(spec, VALUE_TARGETS[spec])
    if form not in FORMS:
        return _class_target(spec, names, count)
    base = base.strip() or "pred"
    if base.partition(":")[0] in FORMS:
        raise TargetError(f"target '{spec}': expected one of {', '.join(FORMS)}, not both")
    return replace(_class_target(base, names, count), spec=spec, form=form)


def _class_target(spec: str, names: Sequence[str] | None, count: int | None) -> ClassTarget:
    if spec == "pred":
        return ClassTarget(spec)
    if match := re.fullmatch(r"top(\d+)", spec):
        rank = int(match[1])
        if rank < 1 or (count is not None and rank > count):
            raise TargetError(f"target '{spec}': expected top1 to top{count or 'K'}")
        return ClassTarget(spec, rank=rank)
    if re.fullmatch(r"-?\d+", spec):
        if int(spec) < 0 or (count is not None and int(spec) >= count):
            upto = "" if count is None else f" to {count - 1}"
            raise TargetError(f"target {spec}: expected a class index from 0{upto}")
        return ClassTarget(spec, index=int(spec))
    return ClassTarget(spec, index=_index_of(spec, names))


def logits(output: Any) -> Tensor:
    """Return the class scores (N,K) in a model's output: itself, its `.logits` or first element.

    One score for each image (N,) becomes (N,1). Half precision is converted to float32. Raises
    TargetError where there are no class scores.
    """
    scores = getattr(output, "logits", output)
    if isinstance(scores, tuple | list) and scores:
        scores = scores[0]
    if isinstance(scores, Tensor) and scores.ndim in (1, 2):
        return at_least_float32(scores if scores.ndim == 2 else scores[:, None])
    given = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
    raise TargetError(
        f"the model returns {given}, not class scores (N,K): give a function as the target"
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
    """Return a class name in the form in which names are compared: casefolded, spaces for `_`."""
    return " ".join(name.replace("_", " ").casefold().split())
