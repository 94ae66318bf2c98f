"""Ground truth in a run: which images have some, and which class of each is explained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from camcli.capture.hooks import borrowed
from camcli.capture.targets import logits, parse_target
from camcli.errors import AnnotationError
from camcli.evaluation.annotations import Object, Reader, Size, reader
from camcli.evaluation.class_map import class_finder
from camcli.images.geometry import Crop
from camcli.models.model import Model

ANNOTATED = "annotated"
"""The target that takes, of the classes that an image's objects are of, the best one."""

UNANNOTATED = "not annotated"
UNKNOWN = "no object of a class of the model"
DIFFICULT = "only objects that are marked as difficult"
ANOTHER = "no object of the class that is followed"
FEWER = "fewer objects of the class than --objects asks for"


@dataclass(frozen=True)
class Scene:
    """What is known of a photo: its size, the part that the network sees, and its objects.

    The objects are by the model's classes that they are of, those marked as difficult left out;
    `few` are the classes of which there are too few.
    """

    size: Size
    crop: Crop
    objects: Mapping[int, tuple[Object, ...]]
    few: Set[int] = frozenset()


@dataclass(frozen=True)
class Truth:
    """Annotations as they were given, how they are read, and the model's classes by label."""

    boxes: str
    class_map: Path | None
    read: Reader
    classes_of: Callable[[str], frozenset[int]]

    def by_class(self, objects: Iterable[Object]) -> dict[int, tuple[Object, ...]]:
        """Objects by class of the model. Raises AnnotationError."""
        found: dict[int, tuple[Object, ...]] = defaultdict(tuple)
        for one in objects:
            for label in self.classes_of(one.label):
                found[label] += (one,)
        return dict(found)


def ground_truth(boxes: str, class_map: Path | None, model: Model) -> Truth:
    """Annotations from `FORMAT:PATH`, and a file of classes if need be. Raises AnnotationError."""
    read = reader(boxes)
    classes_of = class_finder(class_map, model.class_names, model.num_classes)
    return Truth(boxes, class_map, read, classes_of)


def followed(model: Model, target: str, images: Tensor, scenes: Sequence[Scene]) -> list[int]:
    """The class to explain of each image (N,3,H,W), by its target. Raises AnnotationError."""
    with borrowed(model.module), torch.no_grad():
        output = model.module(images)
    if target != ANNOTATED:
        (resolved,) = parse_target(target, model.class_names, model.num_classes).resolve(output)
        assert resolved.classes is not None  # Study.check refuses other targets
        classes: list[int] = resolved.classes.tolist()
        return classes
    rows = logits(output).tolist()
    highest = max(max(scene.objects) for scene in scenes)
    if highest >= len(rows[0]):
        raise AnnotationError(
            f"class {highest} of the annotations: {model.name} has {len(rows[0])} classes, from 0 "
            f"to {len(rows[0]) - 1}"
        )
    return [
        max(sorted(scene.objects), key=row.__getitem__)
        for row, scene in zip(rows, scenes, strict=True)
    ]
