"""The network, methods and protocol of a run, and the maps that they give for a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from camcli.capture.windows import Window
from camcli.engine.explain import TargetLike, explain
from camcli.engine.explanation import Explanation
from camcli.evaluation import perturbation
from camcli.evaluation.baselines import BASELINES
from camcli.evaluation.protocol import Protocol
from camcli.models.model import Model


@dataclass(frozen=True)
class MethodRunner:
    """Everything that the batches of a run share."""

    model: Model
    methods: tuple[str, ...]
    protocol: Protocol
    target: TargetLike = "pred"
    layer: str | None = None
    batch_size: int = 16

    @property
    def window(self) -> Window:
        """The window of the occlusion method."""
        return Window(self.protocol.window, self.protocol.stride, self.batch_size)

    def explain(
        self, images: Tensor, methods: Sequence[str], target: TargetLike | Sequence[TargetLike]
    ) -> list[Explanation]:
        """Explain images (N,3,H,W) by these methods, in their order."""
        return explain(
            self.model, images, methods, target=target, layer=self.layer, window=self.window
        )

    def maps(
        self, explanations: Sequence[Explanation], numbers: Sequence[int]
    ) -> dict[str, Tensor]:
        """Return the raw maps (N,h,w) of each method and baseline, by name."""
        sign, seed = self.protocol.gradient_sign, self.protocol.seed
        maps = {one.method: perturbation.sum_colours(one.maps, sign) for one in explanations}
        like = explanations[0].maps
        baselines = {name: make(numbers, seed).to(like) for name, make in BASELINES.items()}
        return maps | baselines
