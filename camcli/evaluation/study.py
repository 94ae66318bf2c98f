"""A study: everything that decides the result of an evaluation, and the maps of its methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec

from torch import Tensor

from camcli.capture.activations import gives_probabilities
from camcli.capture.target_parser import parse_target
from camcli.capture.targets import ClassTarget, TargetLike, ValueTarget
from camcli.capture.windows import Window, ignored
from camcli.engine.explain import explain, pick_methods
from camcli.engine.explanation import Explanation
from camcli.errors import AnnotationError, MethodError, TargetError
from camcli.evaluation import perturbation
from camcli.evaluation.baselines import BASELINES
from camcli.evaluation.ground_truth import ANNOTATED, GroundTruth
from camcli.evaluation.protocol import Protocol
from camcli.evaluation.registry import METRICS
from camcli.images.source import Source
from camcli.models.model import Model
from camcli.runs.options import InputOptions


@dataclass(frozen=True)
class Study:
    """The images, network, methods, metrics and options of an evaluation.

    `min_objects` restricts an image's classes to those with at least that many objects in it.
    """

    sources: Sequence[Source]
    model: Model
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    protocol: Protocol = field(default_factory=Protocol)
    target: str = "pred"
    layer: str | None = None
    inputs: InputOptions = field(default_factory=InputOptions)
    truth: GroundTruth | None = None
    min_objects: int = 1

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows of the result: the methods, then the baselines."""
        return *self.methods, *BASELINES

    def runner(self) -> MethodRunner:
        """Return what computes the maps of a batch."""
        return MethodRunner(
            self.model,
            self.methods,
            self.protocol,
            self.target,
            self.layer,
            self.inputs.batch_size,
        )

    def check(self) -> None:
        """Raise CamcliError for methods, metrics and targets that no image can have."""
        pick_methods(self.methods)
        self._check_packages()
        if self.model.task != "classification":
            raise MethodError(
                f"{self.model.name} is a {self.model.task} network: metrics need the probability "
                "of a class, expected a network for classification"
            )
        if not gives_probabilities(self.model.activation):
            self._check_without_probabilities()
        if self.truth is None:
            self._check_without_annotations()
        if self.target == ANNOTATED:
            return
        target = parse_target(self.target, self.model.class_names, self.model.num_classes)
        if isinstance(target, ValueTarget) and target.sign == 1:
            return
        if not isinstance(target, ClassTarget) or target.form:
            raise TargetError(
                f"target '{self.target}': metrics need the probability of a class; expected "
                f"pred, topK, a class index or name, or score for a regression"
            )

    def _check_packages(self) -> None:
        for name in self.metrics:
            for package in METRICS[name].packages:
                if find_spec(package) is None:
                    raise MethodError(
                        f"metric '{name}' needs {package}, which is not installed: "
                        "pip install 'camcli[evaluate]'"
                    )

    def _check_without_probabilities(self) -> None:
        for name in self.metrics:
            if METRICS[name].needs_class:
                others = [name for name, metric in METRICS.items() if not metric.needs_class]
                raise MethodError(
                    f"metric '{name}' needs the probability of a class, which the values of "
                    f"{self.model.name} do not have (activation {self.model.activation}): expected "
                    f"--metric {', '.join(others)}"
                )

    def _check_without_annotations(self) -> None:
        for name in self.metrics:
            if METRICS[name].place == "annotation":
                raise AnnotationError(
                    f"metric '{name}' needs annotations: expected --boxes FORMAT:PATH, as in "
                    "voc:Annotations"
                )
        if self.min_objects > 1:
            raise AnnotationError(
                f"--min-objects {self.min_objects} needs annotations: expected --boxes"
            )
        if self.target == ANNOTATED:
            raise TargetError(f"target '{ANNOTATED}' needs annotations: expected --boxes")


@dataclass(frozen=True)
class MethodRunner:
    """Everything that the batches of a run share.

    `passed` is called with the number of inputs after each forward pass of them.
    """

    model: Model
    methods: tuple[str, ...]
    protocol: Protocol
    target: TargetLike = "pred"
    layer: str | None = None
    batch_size: int = 16
    passed: Callable[[int], None] = ignored

    @property
    def window(self) -> Window:
        """The window of the occlusion method."""
        protocol = self.protocol
        return Window(protocol.window, protocol.stride, self.batch_size, self.passed)

    def explain(
        self, images: Tensor, methods: Sequence[str], target: TargetLike | Sequence[TargetLike]
    ) -> list[Explanation]:
        """Explain images (N,3,H,W) by these methods, in their order.

        The maps are placed as the protocol tells.
        """
        found = explain(
            self.model, images, methods, target=target, layer=self.layer, window=self.window
        )
        self.passed(len(images) * len(methods))
        if self.protocol.placement == "centres":
            return found
        return [replace(one, centres=None, drawn=None) for one in found]

    def maps(
        self, explanations: Sequence[Explanation], numbers: Sequence[int]
    ) -> dict[str, Tensor]:
        """Return the raw maps (N,h,w) of each method and baseline, by name."""
        sign, seed = self.protocol.gradient_sign, self.protocol.seed
        maps = {
            one.method: perturbation.sum_gradients(
                one.maps if one.drawn is None else one.drawn, sign
            )
            for one in explanations
        }
        like = explanations[0].maps
        baselines = {name: make(numbers, seed).to(like) for name, make in BASELINES.items()}
        return maps | baselines
