"""Which of a model's classes an annotation's class is: COCO's dog is 118 of ImageNet's."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from camcli.capture.targets import ClassTarget, folded, parse_target
from camcli.errors import AnnotationError, TargetError
from camcli.evaluation.annotations import lines_of


def class_finder(
    file: Path | None, names: Sequence[str] | None, count: int | None
) -> Callable[[str], frozenset[int]]:
    """From an object's label to the model's classes that it is one of, none if it is of no one.

    Without a file a label is a class name of the model. A file says what else it may be: lines
    `LABEL: CLASS, CLASS, ...` with the model's class names, indices or ranges of indices, as in
    `dog: 151-268` or `cat: tabby, tiger cat, 283-285`; `#` starts a remark. A label without a line
    is no class of the model. Raises AnnotationError.
    """
    if file is None and not names:
        raise AnnotationError(
            "the model has no class names to know an annotation's classes by: expected "
            "--class-map, a file with lines such as 'dog: 151-268'"
        )
    found: dict[str, set[int]] = defaultdict(set)
    for label, index in _mapped(file, names, count) if file else _named(names):
        found[folded(label)].add(index)

    def classes_of(label: str) -> frozenset[int]:
        if file is None and label.isdecimal() and folded(label) not in found:
            raise AnnotationError(
                f"class {label} of the annotations is a number and no name: expected --class-map, "
                f"a file that says what it is, with lines such as '{label}: 151-268'"
            )
        return frozenset(found.get(folded(label), ()))

    return classes_of


def _named(names: Sequence[str] | None) -> Iterator[tuple[str, int]]:
    return ((name, index) for index, name in enumerate(names or ()))


def _mapped(
    file: Path, names: Sequence[str] | None, count: int | None
) -> Iterator[tuple[str, int]]:
    for number, line in enumerate(lines_of(file), 1):
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
    """The classes that a name, an index or a range stands for. Raises TargetError."""
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
