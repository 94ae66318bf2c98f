"""Ground truth in a run: the annotated images, and the class of each that is explained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from camcli.capture.hooks import borrowed
from camcli.capture.readers import reader_of
from camcli.capture.target_parser import parse_target
from camcli.capture.targets import logits
from camcli.errors import AnnotationError
from camcli.evaluation.annotations import AnnotationReader, reader
from camcli.evaluation.objects import Object, Shape
from camcli.images.geometry import Crop
from camcli.models.model import Model
from camcli.runs.class_map import class_finder

ANNOTATED = "annotated"
"""The target for the best-scoring class among those that an image has objects of."""

NOT_ANNOTATED = "not annotated"
UNKNOWN_CLASS = "no object of a class of the model"
ONLY_DIFFICULT = "only objects that are marked as difficult"
OTHER_CLASS = "no object of the explained class"
TOO_FEW = "fewer objects of the class than --min-objects"


@dataclass(frozen=True)
class Annotation:
    """The objects in a photo by class of the model, without those marked as difficult.

    `shape` is the photo's height and width and `crop` the part that the network sees. `too_few` are
    the classes with fewer objects than --min-objects.
    """

    shape: Shape
    crop: Crop
    objects: Mapping[int, tuple[Object, ...]]
    too_few: Set[int] = frozenset()


@dataclass(frozen=True)
class GroundTruth:
    """Annotations as the user named them, their reader, and the model's classes by label."""

    boxes: str
    class_map: Path | None
    read: AnnotationReader
    classes_of: Callable[[str], frozenset[int]]

    def by_class(self, objects: Iterable[Object]) -> dict[int, tuple[Object, ...]]:
        """Group objects by class of the model. Raises AnnotationError."""
        found: dict[int, tuple[Object, ...]] = defaultdict(tuple)
        for one in objects:
            for label in self.classes_of(one.label):
                found[label] += (one,)
        return dict(found)


def ground_truth(boxes: str, class_map: Path | None, model: Model) -> GroundTruth:
    """Open the annotations `FORMAT:PATH` and a class map, if given. Raises AnnotationError."""
    read = reader(boxes)
    classes_of = class_finder(class_map, model.class_names, model.num_classes)
    return GroundTruth(boxes, class_map, read, classes_of)


def explained_classes(
    model: Model, target: str, images: Tensor, annotations: Sequence[Annotation]
) -> list[int]:
    """Return the class that the target selects for each image (N,3,H,W). Raises AnnotationError."""
    with borrowed(model.module), torch.no_grad():
        output = reader_of(model).read(model.module, images)
    if target != ANNOTATED:
        (resolved,) = parse_target(target, model.class_names, model.num_classes).resolve(output)
        assert resolved.classes is not None  # Study.check refuses other targets
        classes: list[int] = resolved.classes.tolist()
        return classes
    scores = logits(output).tolist()
    output.activation.check(target, ranked=True, finer=False)
    highest = max(max(annotation.objects) for annotation in annotations)
    if highest >= len(scores[0]):
        raise AnnotationError(
            f"class {highest} of the annotations: {model.name} has {len(scores[0])} classes, from "
            f"0 to {len(scores[0]) - 1}"
        )
    return [
        max(sorted(annotation.objects), key=of_image.__getitem__)
        for of_image, annotation in zip(scores, annotations, strict=True)
    ]
