"""The evidence of one watched pass: for each target, at each layer, and for a target at a layer.

Each piece is computed on first use and kept, so that methods share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from camcli.capture import perturbed
from camcli.capture.forward import Pass
from camcli.capture.layer_evidence import LayerEvidence
from camcli.capture.target_evidence import TargetEvidence, output_for
from camcli.capture.targets import Target, WeightedClasses
from camcli.images.geometry import PIXELS, Centres
from camcli.methods.registry import EVIDENCE
from camcli.models.head import Head
from camcli.models.precision import at_least_float32
from camcli.render import enlarge
from camcli.speed import cached_property


class Observation:
    """A watched pass with its resolved targets `scored`, and one entry in `layers` for each tap.

    Call `close` at the end: evidence and pass refer to each other, and would keep the graph until
    the garbage collector finds them.
    """

    def __init__(self, run: Pass, targets: Sequence[Target]) -> None:
        self.run = run
        self.groups = [
            [TargetEvidence(run, part) for part in target.resolve(output_for(run, target))]
            for target in targets
        ]
        self.scored = [scored for group in self.groups for scored in group]
        self.layers = [LayerEvidence(run, tap, self.scores_of) for tap in run.taps]
        self._evidence = {
            (scored, layer): Evidence(self, scored, layer)
            for scored in self.scored
            for layer in (None, *self.layers)
        }

    def close(self) -> None:
        for held in (self.groups, self.scored, self.layers, self._evidence):
            held.clear()

    def evidence(self, scored: TargetEvidence, *, at_layers: bool) -> list[Evidence]:
        """Return a target's evidence at each layer, or the one Evidence without a layer."""
        layers: Sequence[LayerEvidence | None] = self.layers if at_layers else [None]
        return [self._evidence[scored, layer] for layer in layers]

    def scores_of(self, output: Any, which: Tensor) -> Tensor:
        """Return the scores (T,M) of all targets in an output for images `which` (M,)."""
        return torch.stack([scored.score_of(output, which) for scored in self.scored])

    @cached_property
    def occluded(self) -> Tensor:
        """The scores with the window at each position, (T,N,r,c)."""
        of_classes = all(isinstance(scored.target, WeightedClasses) for scored in self.scored)
        return perturbed.occluded(self.run, self.scores_of, of_classes=of_classes)


class Evidence:
    """The evidence of a target at a layer, by the names in EVIDENCE.

    A row of EVIDENCE without `take` is the property here that has its name.
    """

    def __init__(
        self, observation: Observation, scored: TargetEvidence, layer: LayerEvidence | None
    ) -> None:
        self.observation = observation
        self.run = observation.run
        self.scored = scored
        self.layer = layer

    def __getitem__(self, name: str) -> Any:
        """Return a row of EVIDENCE, computed in the model's precision and at least float32."""
        take = EVIDENCE[name].take
        found = getattr(self, name) if take is None else take(self)
        several = isinstance(found, tuple)
        return tuple(map(at_least_float32, found)) if several else at_least_float32(found)

    @property
    def acts(self) -> Tensor:
        return self._at.tap.detached

    @cached_property
    def grads(self) -> Tensor:
        return self._at.tap.gradient(self.scored.live_score)

    @property
    def log_grads(self) -> Tensor:
        assert self.scored.target.classes is not None
        return self._at.log_grads(self.scored.target.classes)

    @property
    def mean_square(self) -> Tensor:
        return self._at.moments[0]

    @property
    def mean_cube(self) -> Tensor:
        return self._at.moments[1]

    @property
    def pooled(self) -> Tensor:
        return self.acts.relu() if self._head.rectified else self.acts

    @property
    def weights(self) -> Tensor:
        return self._of_classes(self._head.linear.weight)

    @property
    def bias(self) -> Tensor:
        bias = self._head.linear.bias if isinstance(self._head.linear, nn.Conv2d) else None
        return torch.zeros_like(self.score) if bias is None else self._of_classes(bias)

    @property
    def masked(self) -> Tensor:
        return self._at.masked[self._number]

    @property
    def ablated(self) -> Tensor:
        return self._at.ablated[self._number]

    @property
    def attention(self) -> tuple[Tensor, ...]:
        return tuple(weights.detach() for weights in self._at.attended.weights)

    @cached_property
    def attention_grads(self) -> tuple[Tensor, ...]:
        return self._at.attended.gradients(self.scored.score_of)

    @cached_property
    def block_grads(self) -> tuple[Tensor, ...]:
        return self._at.attended.block_gradients(self.scored.score_of)

    @cached_property
    def reading(self) -> Tensor:
        return self._at.attended.reading(self.scored.score_of)

    @property
    def cells(self) -> Tensor:
        return self._at.attended.cells

    @property
    def vertical(self) -> Tensor:
        return self._weights(None)[0]

    @property
    def horizontal(self) -> Tensor:
        return self._weights(None)[1]

    @property
    def centres(self) -> Centres | None:
        """The centres of the map's cells in input pixels; None where they are not known.

        Without a layer, the map has the size of the input.
        """
        return self.run.watch.centres.get(self.layer.path) if self.layer else PIXELS

    @property
    def placed(self) -> dict[str, Tensor]:
        """The weights of rows and columns by the centres; empty where equal parts are the same."""
        if enlarge.is_of_parts(self.centres, self.acts.shape[2:], self.run.image.shape[2:]):
            return {}
        return dict(zip(("vertical", "horizontal"), self._weights(self.centres), strict=True))

    def _weights(self, centres: Centres | None) -> tuple[Tensor, Tensor]:
        (height, width), acts = self.run.image.shape[2:], at_least_float32(self.acts)
        parts = Centres.of_parts(acts.shape, (0, 0, width, height))
        return enlarge.weights(centres or parts, acts, (height, width))

    @property
    def guided(self) -> Tensor:
        return self.scored.guided

    @property
    def score(self) -> Tensor:
        return self.scored.score

    @property
    def occluded(self) -> Tensor:
        return self.observation.occluded[self._number]

    @property
    def rows(self) -> Tensor:
        return self.run.coverage[0]

    @property
    def columns(self) -> Tensor:
        return self.run.coverage[1]

    @property
    def _at(self) -> LayerEvidence:
        assert self.layer is not None
        return self.layer

    @property
    def _number(self) -> int:
        return self.observation.scored.index(self.scored)

    @property
    def _head(self) -> Head:
        assert self.run.watch.head is not None
        return self.run.watch.head

    def _of_classes(self, parameter: Any) -> Tensor:
        """Return a parameter of the head (K,...) summed over the target's classes, (N,...)."""
        target = self.scored.target
        assert isinstance(target, WeightedClasses)
        rows = at_least_float32(parameter.detach())
        rows = rows.flatten(1).mT if rows.ndim > 1 else rows  # classes are last
        rows = self.run.reading.activation.scores(rows)
        rows = rows.mT if rows.ndim > 1 else rows
        return torch.einsum("nj,nj...->n...", target.factors, rows[target.indices])
