"""Class maps: the model's classes for the labels of annotations.

COCO's dog is 118 classes of ImageNet.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from camcli.capture.target_parser import folded, parse_target
from camcli.capture.targets import ClassTarget
from camcli.errors import AnnotationError, TargetError
from camcli.evaluation.annotations import read_lines


def class_finder(
    file: Path | None, names: Sequence[str] | None, count: int | None
) -> Callable[[str], frozenset[int]]:
    """Return a function from an object's label to the model's classes that it belongs to.

    Without a file a label is a class name of the model. A file has lines `LABEL: CLASS, CLASS, ...`
    with the model's class names, indices or ranges of indices, as in `dog: 151-268` or
    `cat: tabby, tiger cat, 283-285`; `#` starts a comment. A label without a line belongs to no
    class. Raises AnnotationError.
    """
    if file is None and not names:
        raise AnnotationError(
            "the model has no class names to match the annotations' labels: expected --class-map, "
            "a file with lines such as 'dog: 151-268'"
        )
    found: dict[str, set[int]] = defaultdict(set)
    by_name = ((name, index) for index, name in enumerate(names or ()))
    for label, index in _parse_class_map(file, names, count) if file else by_name:
        found[folded(label)].add(index)

    def classes_of(label: str) -> frozenset[int]:
        if file is None and label.isdecimal() and folded(label) not in found:
            raise AnnotationError(
                f"label {label} of the annotations is a number, not a name: expected --class-map, "
                f"a file with lines such as '{label}: 151-268'"
            )
        return frozenset(found.get(folded(label), ()))

    return classes_of


def _parse_class_map(
    file: Path, names: Sequence[str] | None, count: int | None
) -> Iterator[tuple[str, int]]:
    for number, line in enumerate(read_lines(file), 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        label, _, listed = (part.strip() for part in text.partition(":"))
        if not label or not listed:
            raise AnnotationError(f"{file}, line {number}: '{text}': expected LABEL: CLASS, CLASS")
        for given in (part.strip() for part in listed.split(",")):
            try:
                yield from ((label, index) for index in _indices(given, names, count))
            except TargetError as error:
                raise AnnotationError(f"{file}, line {number}: {error}") from None


def _indices(given: str, names: Sequence[str] | None, count: int | None) -> Iterable[int]:
    """Return the classes of a name, an index or a range. Raises TargetError."""
    if not given:
        raise TargetError("nothing between two commas: expected a class")
    if ends := re.fullmatch(r"(\d+)\s*-\s*(\d+)", given):
        first, last = (_index(end, names, count) for end in ends.groups())
        if first > last:
            raise TargetError(f"range {given}: expected the lower index first")
        return range(first, last + 1)
    return (_index(given, names, count),)


def _index(given: str, names: Sequence[str] | None, count: int | None) -> int:
    target = parse_target(given, names, count)
    if not isinstance(target, ClassTarget) or target.index is None or target.form:
        raise TargetError(f"'{given}': expected a class name, an index or a range as 151-268")
    return target.index
