"""The evidence of one watched pass at one layer, for all targets at once."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import one_hot

from camcli.capture import perturbed
from camcli.capture.blocks import Attended
from camcli.capture.class_moments import class_moments
from camcli.capture.forward import Pass
from camcli.capture.hooks import Tap
from camcli.speed import cached_property


class LayerEvidence:
    """The evidence at one layer, for all targets at once."""

    def __init__(self, run: Pass, tap: Tap, score: perturbed.Scorer) -> None:
        self.run = run
        self.tap = tap
        self.score = score

    @property
    def path(self) -> str:
        return self.tap.path

    def log_grads(self, classes: Tensor) -> Tensor:
        """Return the gradient of log Y, Y the softmax of a class (N,) of each image, (N,C,h,w).

        It is the gradient of `sum_m Y^m (S - S^m)`. That form has no difference 1 - Y, which rounds
        to zero where Y is close to 1.
        """
        scores = self._alternatives
        chosen = one_hot(classes, scores.shape[1]).bool()
        others = scores.detach().softmax(1).masked_fill(chosen, 0)
        contrast = ((chosen * others.sum(1, keepdim=True) - others) * scores).sum(1)
        return self.tap.gradient(contrast)

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Means over all K classes of the square and the cube of `log_grads`, each (N,C,h,w).

        The weights are the classes' probabilities.
        """
        scores = self._alternatives
        mean = -self.log_grads(scores.argmax(1))
        return class_moments(self.tap, scores, mean, self.run.watch.head)

    @property
    def _alternatives(self) -> Tensor:
        """The scores (N,K) whose softmax are the probabilities of the classes."""
        found: Tensor = self.run.reading.alternatives
        return found

    @cached_property
    def masked(self) -> Tensor:
        """The scores of the images multiplied by each channel, (T,N,C) for T targets."""
        return perturbed.masked(self.run, self.tap, self.score)

    @cached_property
    def ablated(self) -> Tensor:
        """The scores with each channel set to zero, (T,N,C) for T targets."""
        return perturbed.ablated(self.run, self.tap, self.score)

    @cached_property
    def attended(self) -> Attended:
        """The pass that notes the attention among the layer's tokens."""
        return Attended(self.run, self.tap)
