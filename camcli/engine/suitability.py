"""Whether a method fits a network and a target. Each misfit is one line that names the way out."""

from __future__ import annotations

from collections.abc import Sequence

from camcli.capture.target_evidence import TargetEvidence
from camcli.capture.targets import FunctionTarget, WeightedClasses
from camcli.errors import MethodError
from camcli.methods.registry import Method
from camcli.models.model import Model


def check_network(method: Method, model: Model, paths: Sequence[str | None]) -> None:
    """Raise MethodError if the network does not fit the method."""
    if "softmax" in method.requires and model.task != "classification":
        raise MethodError(
            f"{method.name} is for classification networks; this is a {model.task} one: use gradcam"
        )
    if "head" not in method.requires:
        return
    if model.head is None:
        raise MethodError(
            f"{method.name} needs a network that ends in global average pooling and one linear "
            f"layer, and {model.name} does not: use gradcam, which equals it up to scale where "
            f"both exist"
        )
    for path in paths:
        if path != model.layer:
            raise MethodError(
                f"{method.name} reads the layer before the pooling, '{model.layer}', not '{path}': "
                f"leave the layer on auto, or use gradcam"
            )


def check_target(method: Method, scored: TargetEvidence) -> None:
    """Raise MethodError if the method needs another kind of target or of classes."""
    target = scored.target
    fits = isinstance(target, WeightedClasses) and (
        "one class" not in method.requires or target.is_plain
    )
    if method.requires & {"classes", "one class"} and not fits:
        given = "a function" if isinstance(target, FunctionTarget) else f"'{target.spec}'"
        raise MethodError(f"{method.name} explains a class, not {given}: use gradcam")
    if "softmax" in method.requires and scored.run.reading.alternatives is None:
        raise MethodError(
            f"{method.name} is for classes that exclude each other; this network gives "
            f"{scored.run.reading.activation.meaning}: use gradcam++"
        )
