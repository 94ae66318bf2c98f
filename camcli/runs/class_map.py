"""Class maps: the model's classes for the labels of images and objects.

COCO's dog is 118 classes of ImageNet.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from camcli.capture.target_parser import folded, parse_target
from camcli.capture.targets import ClassTarget
from camcli.errors import AnnotationError, TargetError
from camcli.runs.label_files import read_lines


@dataclass(frozen=True)
class Label:
    """A label of images or objects, and the model's classes that it stands for.

    `name` is that of the class, where the label stands for a single one that has a name.
    """

    name: str
    classes: frozenset[int] = frozenset()


@dataclass(frozen=True)
class ClassFinder:
    """A function from a label to the model's classes that it stands for.

    `labels` are the known ones by their folded names, `from_file` if a class map lists them. Raises
    AnnotationError for a number, unless it is known.
    """

    labels: Mapping[str, Label]
    from_file: bool

    def __call__(self, name: str) -> frozenset[int]:
        return self.label(name).classes

    def label(self, name: str) -> Label:
        """Return the label of this name, without classes if it is unknown."""
        known = self.labels.get(folded(name))
        if known is None and name.isdecimal() and not self.from_file:
            raise AnnotationError(
                f"label {name} is a number, not a name: expected --class-map, a file with lines "
                f"such as '{name}: 151-268'"
            )
        return known or Label(name)


def class_finder(file: Path | None, names: Sequence[str] | None, count: int | None) -> ClassFinder:
    """Return a function from a label to the model's classes that it stands for.

    Without a file a label is a class name of the model. A file has lines `LABEL: CLASS, CLASS, ...`
    with the model's class names, indices or ranges of indices, as in `dog: 151-268` or
    `cat: tabby, tiger cat, 283-285`; `#` starts a comment. A label without a line stands for no
    class. Raises AnnotationError.
    """
    if file is None and not names:
        raise AnnotationError(
            "the model has no class names to match labels with: expected --class-map, a file with "
            "lines such as 'dog: 151-268'"
        )
    found: dict[str, tuple[str, set[int]]] = {}
    by_name = ((name, index) for index, name in enumerate(names or ()))
    for name, index in _parse_class_map(file, names, count) if file else by_name:
        found.setdefault(folded(name), (name, set()))[1].add(index)
    labels = {key: _label(name, classes, names) for key, (name, classes) in found.items()}
    return ClassFinder(labels, from_file=file is not None)


def _label(name: str, classes: Collection[int], names: Sequence[str] | None) -> Label:
    (first, *more) = classes
    return Label(names[first] if names and not more else name, frozenset(classes))


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
