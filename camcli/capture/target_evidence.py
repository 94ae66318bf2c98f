"""The evidence of a target that depends on no layer: its score, class, probability and box."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from camcli.capture.endings import own_output
from camcli.capture.forward import Pass
from camcli.capture.similarity import Embedded
from camcli.capture.strided import gradient_at_image
from camcli.capture.targets import Target
from camcli.errors import ModelError
from camcli.speed import cached_property


class TargetEvidence:
    """The evidence of one resolved target that does not depend on a layer."""

    def __init__(self, run: Pass, target: Target) -> None:
        self.run = run
        self.target = target
        self.live_score = target.score(output_for(run, target))
        if len(self.live_score) != run.size:
            found, images = len(self.live_score), f"{run.size} image{'s' * (run.size > 1)}"
            if target.raw:
                raise TypeError(f"target '{target.spec}' gives {found} scores for {images}")
            raise ModelError(
                f"the network gives {found} outputs for {images}: expected one for each image"
            )

    def score_of(self, output: Any, which: Tensor) -> Tensor:
        """Return the score (M,) in another output, whose rows are images `which` (M,)."""
        reader = self.run.watch.reader
        read = _own(output, self.target) if self.target.raw else reader(output, which)
        return self.target.select(which).score(read)

    @property
    def score(self) -> Tensor:
        """The score of each image (N,), without its graph."""
        return self.live_score.detach()

    @property
    def probability(self) -> Tensor | None:
        """The probability of the class or text explained, (N,); None for a function or a value."""
        if (texts := self.target.texts) is not None:
            return self.score.new_tensor([text.probability for text in texts])
        if (own := self.target.probabilities) is not None:
            return own
        if self.target.classes is None or self.run.probabilities is None:
            return None
        return self._of_class(self.run.probabilities)

    @property
    def confidence(self) -> Tensor | None:
        """The probability of the best class, (N,).

        None where the target is neither a class with a probability nor a similarity.
        """
        has_class = self.target.classes is not None or self.target.embeds
        return self.run.confidence if has_class else None

    @property
    def ranking(self) -> Tensor | None:
        """Numbers (N,K) that are highest for the best class; None where `confidence` is None."""
        return None if self.confidence is None else self.run.ranking

    @property
    def box(self) -> Tensor | None:
        """The object's box, or the class's best one, (N,4) in input pixels; None without boxes."""
        if self.target.classes is None or self.target.boxes is not None:
            return self.target.boxes
        boxes = getattr(self.run.reading, "boxes", None)
        return None if boxes is None else self._of_class(boxes)

    @cached_property
    def guided(self) -> Tensor:
        """The score's gradient at the input under the guided rule, (N,3,H,W)."""
        self.run.rule.active = True
        try:
            return gradient_at_image(self.live_score, self.run.image)
        finally:
            self.run.rule.active = False

    def _of_class(self, values: Tensor) -> Tensor:
        """Return the values of the target's class, (N,...), of values of all classes (N,K,...)."""
        return values[torch.arange(len(values), device=values.device), self.target.classes]


def output_for(run: Pass, target: Target) -> Any:
    """Return the output of the pass in the form that a target's score takes."""
    return _own(run.output, target) if target.raw else run.reading


def _own(output: Any, target: Target) -> Any:
    """Return the network's own output, with the embedding if the target needs it."""
    found = own_output(output)
    return found.own if isinstance(found, Embedded) and not target.embeds else found
