"""Targets: the explained quantity, as one differentiable score for each image.

A new kind of target is one subclass of `Target`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, SupportsIndex, TypeAlias, TypeGuard

import torch
from torch import Tensor

from camcli.capture.activations import SOFTMAX, VALUE
from camcli.capture.forms import FORMS, class_itself
from camcli.errors import TargetError
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
    embeds: ClassVar[bool] = False
    """Whether `score` takes the pooled embedding beside the network's own output (`Embedded`)."""
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
    def probabilities(self) -> Tensor | None:
        """The probability of each image's own object, (N,); None for that of the whole class."""
        return None

    @property
    def boxes(self) -> Tensor | None:
        """The box of each image's own object, (N,4); None for the best one of the class."""
        return None

    @property
    def texts(self) -> tuple[ExplainedText, ...] | None:
        """The text explained for each image; None if the resolved target is not a text."""
        return None

    @property
    def written(self) -> str:
        """The target as a user writes it."""
        return self.spec

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

    With `among`, it is the best of the classes given for each of N images. `form` is a name in
    FORMS, or empty for the class itself.
    """

    spec: str
    rank: int = 1
    index: int | None = None
    given: Tensor | None = None
    among: Sequence[Collection[int]] | None = None
    form: str = ""

    def resolve(self, output: Any) -> tuple[WeightedClasses]:
        scores, ranking = logits(output).detach(), ranking_of(output)
        form = FORMS[self.form] if self.form else class_itself
        ranked = self.index is None and self.given is None
        activation = getattr(output, "activation", SOFTMAX)
        activation.check(self.spec, ranked=ranked, finer=self.form == "finer")
        return (WeightedClasses(self.spec, *form(scores, self._classes(ranking)[:, None])),)

    def _classes(self, ranking: Tensor) -> Tensor:
        """Return the class index of each image (N,), by the classes' `ranking` (N,K)."""
        if self.among is not None:
            return self._checked(best_among(ranking, self.among), ranking)
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


def is_true(target: Target) -> TypeGuard[ClassTarget]:
    """Return whether a target is the true class, which is `among` the classes of each image."""
    return isinstance(target, ClassTarget) and target.among is not None


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


def logits(output: Any) -> Tensor:
    """Return the class scores (N,K) in a model's output: itself, its `.logits` or first element.

    One score for each image (N,) becomes (N,1). Half precision is converted to float32. Raises
    TargetError where there are no class scores.
    """
    return at_least_float32(own_logits(output))


def ranking_of(output: Any) -> Tensor:
    """Return numbers (N,K) that are highest for an image's best class, without their graph."""
    ranking: Tensor = output.ranking if hasattr(output, "ranking") else logits(output)
    return ranking.detach()


def best_among(ranking: Tensor, classes: Sequence[Collection[int]]) -> Tensor:
    """Return the best of the classes given for each image, (N,), by a `ranking` (N,K).

    An image without classes has -1.
    """
    longest = max(1, *map(len, classes))
    if (highest := max((-1, *map(max, filter(None, classes))))) >= ranking.shape[1]:
        raise TargetError(f"true class {highest}: the model has {ranking.shape[1]} classes")
    rows = [(sorted(of_image) or [0]) * longest for of_image in classes]
    among = torch.tensor([row[:longest] for row in rows], device=ranking.device)
    best = among.gather(1, ranking.gather(1, among).argmax(1, keepdim=True))[:, 0]
    known = torch.tensor([bool(of_image) for of_image in classes], device=ranking.device)
    return best.where(known, -1)


def own_logits(output: Any) -> Tensor:
    """Return the class scores (N,K) in a model's output, in its precision. Raises TargetError."""
    scores = getattr(output, "logits", output)
    if isinstance(scores, tuple | list) and scores:
        scores = scores[0]
    if isinstance(scores, Tensor) and scores.ndim in (1, 2):
        return scores if scores.ndim == 2 else scores[:, None]
    given = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
    raise TargetError(
        f"the model returns {given}, not class scores (N,K): give a function as the target"
    )
