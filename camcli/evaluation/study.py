"""A study: everything that decides the result of an evaluation, with its checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from camcli.capture.targets import ClassTarget, parse_target
from camcli.engine.explain import pick_methods
from camcli.errors import AnnotationError, MethodError, TargetError
from camcli.evaluation.baselines import BASELINES
from camcli.evaluation.ground_truth import ANNOTATED, GroundTruth
from camcli.evaluation.protocol import Protocol
from camcli.evaluation.registry import METRICS
from camcli.images.find import Source
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

    def check(self) -> None:
        """Raise CamcliError for methods, metrics and targets that no image can have."""
        pick_methods(self.methods)
        if self.model.task != "classification":
            raise MethodError(
                f"{self.model.name} is a {self.model.task} network: metrics need the probability "
                "of a class, expected a network for classification"
            )
        if self.truth is None:
            self._check_without_annotations()
        if self.target == ANNOTATED:
            return
        target = parse_target(self.target, self.model.class_names, self.model.num_classes)
        if not isinstance(target, ClassTarget) or target.form:
            raise TargetError(
                f"target '{self.target}': metrics need the probability of a class; expected "
                f"pred, topK, a class index or name"
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
