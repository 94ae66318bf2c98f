"""What a watched pass shows: of its targets, at its layers, and of each target at each layer."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from camcli.capture import perturbed
from camcli.capture.hooks import Tap, gradient
from camcli.capture.targets import Target, logits
from camcli.errors import MethodError
from camcli.models.precision import at_least_float32

if TYPE_CHECKING:
    from camcli.capture.forward import Pass
from camcli.models.head import Head


class Site:
    """What a pass shows at one of its layers, for all targets at once."""

    def __init__(self, run: Pass, tap: Tap) -> None:
        self.run = run
        self.tap = tap

    @property
    def acts(self) -> Tensor:
        """The layer's output (N,C,h,w)."""
        assert self.tap.acts is not None
        return self.tap.acts.detach()

    def log_grads(self, classes: Tensor) -> Tensor:
        """Gradient of log Y at the layer, Y the softmax of the class (N,) of each image.

        (N,C,h,w). It is that of `sum_m Y^m (S - S^m)`, which has none of the difference 1 - Y that
        rounds to zero where the network is sure.
        """
        scores = self._class_scores
        chosen = one_hot(classes, scores.shape[1]).bool()
        others = scores.detach().softmax(1).masked_fill(chosen, 0)
        contrast = ((chosen * others.sum(1, keepdim=True) - others) * scores).sum(1)
        return self.tap.gradient(contrast)

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Means over all K classes of the square and the cube of `log_grads` (N,C,h,w).

        Each class has its probability for weight, and costs a backward pass over the head.
        """
        shares = self._class_scores.detach().softmax(1)
        square = cube = torch.zeros_like(self.acts)
        for index, share in enumerate(shares.T):
            rise = self.log_grads(torch.full_like(share, index, dtype=torch.long))
            weighted = share[:, None, None, None] * rise.square()
            square, cube = square + weighted, cube + weighted * rise
        return square, cube

    @property
    def _class_scores(self) -> Tensor:
        if (task := self.run.watch.reader.task) != "classification":
            line = f"gradcam++softmax is for classification networks; this is a {task} one"
            raise MethodError(f"{line}: use gradcam++")
        return logits(self.run.output)

    @cached_property
    def masked(self) -> Tensor:
        """Scores of the images seen through each channel, (T,N,C) for T targets."""
        return perturbed.masked(self.run, self)

    @cached_property
    def ablated(self) -> Tensor:
        """Scores without each channel, (T,N,C) for T targets."""
        return perturbed.ablated(self.run, self)


class Aim:
    """What a pass shows of one of its targets, whatever the layer."""

    def __init__(self, run: Pass, target: Target) -> None:
        self.run = run
        self.target = target
        self.terms = target.terms(run.reading)
        whole = run.output if self.terms is None else run.reading
        self.live_score = target.score(whole, self.terms)
        if len(self.live_score) != run.size:
            raise TypeError(
                f"target '{target.spec}' gives {len(self.live_score)} scores for {run.size} images"
            )

    def scores_of(self, output: Any, which: Tensor) -> Tensor:
        """The target's scores in another output, whose rows are images `which` of the pass."""
        if self.terms is None:
            return self.target.score(output, None)
        return self.target.score(self.run.watch.reader(output, which), self.terms.of(which))

    @property
    def classes(self) -> Tensor | None:
        """The class explained for each image (N,); None where a function gives the score."""
        return None if self.terms is None else self.terms.classes[:, 0]

    @property
    def score(self) -> Tensor:
        """The score of each image (N,)."""
        return self.live_score.detach()

    @property
    def probability(self) -> Tensor | None:
        """The class's probability (N,), by softmax; None where a function gives the score."""
        return None if self.classes is None else self._of_class(self.run.probabilities)

    @property
    def box(self) -> Tensor | None:
        """The class's best box (N,4) in input pixels; None where the network gives no boxes."""
        boxes = getattr(self.run.reading, "boxes", None)
        return None if boxes is None or self.classes is None else self._of_class(boxes)

    @cached_property
    def guided(self) -> Tensor:
        """The score's gradient at the input under the guided rule (N,3,H,W)."""
        self.run.rule.active = True
        try:
            return gradient(self.live_score, self.run.image, "the input image")
        finally:
            self.run.rule.active = False

    def _of_class(self, values: Tensor) -> Tensor:
        """The target's class out of (N,K,...), as (N,...)."""
        assert self.classes is not None
        return values[torch.arange(len(values), device=values.device), self.classes]


class Evidence:
    """What the methods may ask for, by the names in `methods.EVIDENCE`: a target at a layer.

    Each is computed when first asked for and then kept, so that methods share what they need.
    """

    def __init__(self, aim: Aim, at: Site | None) -> None:
        self.run = aim.run
        self.aim = aim
        self.at = at

    @property
    def acts(self) -> Tensor:
        return self.site.acts

    @cached_property
    def grads(self) -> Tensor:
        return self.site.tap.gradient(self.aim.live_score)

    @property
    def log_grads(self) -> Tensor:
        if self.aim.classes is None or self.aim.target.form:
            what = "a function" if self.aim.classes is None else f"'{self.aim.target.spec}'"
            raise MethodError(f"gradcam++softmax explains a class, not {what}: use gradcam++")
        return self.site.log_grads(self.aim.classes)

    @property
    def mean_square(self) -> Tensor:
        return self.site.moments[0]

    @property
    def mean_cube(self) -> Tensor:
        return self.site.moments[1]

    @property
    def pooled(self) -> Tensor:
        return self.acts.relu() if self._head.rectified else self.acts

    @property
    def weights(self) -> Tensor:
        return self._of_class("weight")

    @property
    def bias(self) -> Tensor:
        bias = self._head.linear.bias if isinstance(self._head.linear, nn.Conv2d) else None
        return torch.zeros_like(self.score) if bias is None else self._of_class("bias")

    @property
    def masked(self) -> Tensor:
        return self.site.masked[self._index]

    @property
    def ablated(self) -> Tensor:
        return self.site.ablated[self._index]

    @property
    def guided(self) -> Tensor:
        return self.aim.guided

    @property
    def score(self) -> Tensor:
        return self.aim.score

    @property
    def occluded(self) -> Tensor:
        return self.run.occluded[self._index]

    @property
    def rows(self) -> Tensor:
        return self.run.covering[0]

    @property
    def columns(self) -> Tensor:
        return self.run.covering[1]

    @property
    def site(self) -> Site:
        """The layer, of evidence that is taken at one."""
        assert self.at is not None
        return self.at

    @property
    def _index(self) -> int:
        return self.run.aims.index(self.aim)

    @property
    def _head(self) -> Head:
        assert self.run.watch.head is not None
        return self.run.watch.head

    def _of_class(self, name: str) -> Tensor:
        if (terms := self.aim.terms) is None:
            raise MethodError("cam explains a class, not a function: use gradcam")
        parameter = at_least_float32(getattr(self._head.linear, name).detach())
        of_each = parameter.flatten(1) if parameter.ndim > 1 else parameter
        return torch.einsum("nj,nj...->n...", terms.factors, of_each[terms.classes])
