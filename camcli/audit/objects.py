"""Annotations of an output folder's images: where the objects of the true class are."""

from __future__ import annotations

from pathlib import Path

from camcli.audit.read import Coverage
from camcli.capture.target_parser import folded
from camcli.errors import AnnotationError, NotAnnotatedError
from camcli.evaluation.annotations import reader
from camcli.images.geometry import Crop, Floats
from camcli.runs.class_map import ClassFinder
from camcli.runs.grids import area_of
from camcli.runs.manifest import Row


def labels_by_class(finder: ClassFinder) -> dict[int, str]:
    """Return the label of each of the model's classes in a class map."""
    return {index: one.name for one in finder.labels.values() for index in one.classes}


def coverage(boxes: str, classes_of: ClassFinder | None = None) -> Coverage:
    """Open annotations `FORMAT:PATH`, and return how objects of the true class cover the cells.

    An object is of the true class if its label is the class's name, or with a class map if the
    model's class is one of the label's. Objects that are marked as difficult are left out. Raises
    AnnotationError.
    """
    read = reader(boxes)

    def is_true(label: str, row: Row) -> bool:
        if classes_of:
            return row.get("true_index") in classes_of(label)
        if label.isdecimal() and not row["true_name"].isdecimal():
            raise AnnotationError(
                f"label {label} of the annotations is a number, not a name: expected --class-map, "
                f"a file with lines such as '{label}: 151-268'"
            )
        return folded(label) == folded(row["true_name"])

    def covered(row: Row, crop: Crop) -> Floats | None:
        if not row.get("size"):
            raise AnnotationError(
                f"the row of {row['image']} has no size, which annotations need: explain the "
                f"images again"
            )
        width, height = row["size"]
        try:
            objects = read(Path(row["image"]), (height, width))
        except NotAnnotatedError:
            return None
        own = [one.box for one in objects if not one.difficult and is_true(one.label, row)]
        return area_of(own, crop) if own else None

    return covered
