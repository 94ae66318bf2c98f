"""The true classes of a run's images, by their folders or by a CSV file."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from camcli.capture.activations import gives_probabilities
from camcli.capture.target_parser import folded
from camcli.errors import AnnotationError, CamcliError, CamcliWarning, nearest
from camcli.images.decode import STDIN
from camcli.images.listing import Listing
from camcli.images.source import Source
from camcli.images.store import AnyPath, parse_path
from camcli.models.model import Model
from camcli.runs.class_map import ClassFinder, Label, class_finder
from camcli.runs.label_files import csv_rows
from camcli.runs.manifest import Row
from camcli.runs.options import TruthOptions
from camcli.runs.predictions import no_prediction

FOLDER, CSV = "folder", "csv:"
NO_LABEL = Label("")
_INDEX = "class_index"
_NAMED = 3
"""The number of labels or images that a warning names."""
_DIGITS = 10
"""The digits of an index that no model has."""


@dataclass(frozen=True)
class Truth:
    """The labels of images.

    `spec` and `class_map` are as the user gave them. `of_images` are labels by the names of images;
    without them, labels are the names of folders. `finder` knows the labels by their names; it is
    None where the user gave indices.
    """

    spec: str
    class_map: str | None = None
    of_images: Mapping[str, Label] | None = None
    finder: ClassFinder | None = None

    def label(self, source: Source) -> Label:
        """Return the label of an image, NO_LABEL if it has none. Raises AnnotationError."""
        if self.of_images is not None:
            return self.of_images.get(source.image, NO_LABEL)
        assert self.finder is not None
        name = _folder_name(source.path)
        return self.finder.label(name) if name else NO_LABEL

    def problem(self, source: Source) -> str | None:
        """Return why an image has no true class; None if it has one."""
        label = self.label(source)
        if label.classes:
            return None
        reason = f"label '{label.name}' is no class of the model"
        return f"no true class: {reason if label.name else f'no label in --truth {self.spec}'}"

    def is_in(self, row: Row, source: Source) -> bool:
        """Return whether the row of an earlier run has an image's label of now."""
        label = self.label(source)
        if row.get("true_name") != no_prediction(label).true_name:
            return False
        right = row.get("predicted_index") in label.classes
        return not label.classes or (
            row.get("true_index") in label.classes and row.get("correct") == right
        )

    @property
    def content(self) -> object:
        """The content of the class map, for a digest; None without one."""
        if not (self.class_map and self.finder):
            return None
        return {name: sorted(label.classes) for name, label in self.finder.labels.items()}

    def check(self, sources: Sequence[Source], *, is_part: bool = False) -> None:
        """Warn of images without a true class.

        Raises AnnotationError if no image has one, unless the images are a part of a list.
        """
        bare, strange, count = _Tally(), _Tally(), len(sources)
        for image, label in self._labels(Listing.of(sources)):
            if not label.name:
                bare.add(image)
            elif not label.classes:
                strange.add(label.name)
        if bare.count + strange.count == count and sources and not is_part:
            raise AnnotationError(self._refusal(bare.names, strange.names))
        _warn(f"of {count}, which have no label in --truth {self.spec}", bare)
        _warn(f"of {count}, whose label is no class of the model", strange)

    def _labels(self, found: Listing) -> Iterator[tuple[str, Label]]:
        """Yield the names of images and their labels."""
        for folder, files in found.parts():
            images = map(folder.image.__add__, files)
            if self.of_images is None:  # one label for all of a folder
                yield from zip(images, itertools.repeat(self.label(folder.source(files[0]))))
            else:
                yield from ((image, self.of_images.get(image, NO_LABEL)) for image in images)

    def _refusal(self, bare: Sequence[str], strange: Sequence[str]) -> str:
        """Return the message for images of which none has a true class."""
        if strange and self.finder:
            near = nearest(folded(strange[0]), self.finder.labels)
            return f"no image has a known class: label '{strange[0]}': did you mean {near}?"
        known = next(iter(self.of_images or ()), None)
        expected = f": expected names as in the manifest, not '{known}'" if known else ""
        return f"no image has a label in --truth {self.spec}, such as '{bare[0]}'{expected}"


class _Tally:
    """The number of names that were added, and the first different ones: one more than are named
    in a warning."""

    def __init__(self) -> None:
        self.count = 0
        self.names: list[str] = []

    def add(self, name: str) -> None:
        self.count += 1
        if len(self.names) <= _NAMED and name not in self.names:
            self.names.append(name)


def read_truth(options: TruthOptions, model: Model) -> Truth | None:
    """Return the labels that a user names; None if there are none. Raises CamcliError."""
    spec, file = options.truth, options.class_map
    if spec is None:
        if file is not None:
            raise CamcliError("--class-map is for --truth: expected --truth folder or csv:FILE")
        return None
    _check_classes(model)
    if spec == FOLDER:
        return Truth(spec, _shown(file), finder=_finder(file, model))
    if not spec.startswith(CSV) or spec == CSV:
        raise CamcliError(f"--truth '{spec}': expected folder or csv:FILE")
    return _from_csv(spec.removeprefix(CSV), file, model)


def _check_classes(model: Model) -> None:
    """Raise CamcliError for a model that does not classify."""
    if model.task != "classification":
        raise CamcliError(f"--truth is for classification; {model.name} is for {model.task}")
    if not gives_probabilities(model.activation):
        raise CamcliError(
            f"--truth is for classes, and {model.name} gives values (--activation none)"
        )


def _shown(file: Path | None) -> str | None:
    return None if file is None else str(file)


def _finder(file: Path | None, model: Model) -> ClassFinder:
    return class_finder(file, model.class_names, model.num_classes)


def _from_csv(given: str, file: Path | None, model: Model) -> Truth:
    """Read a CSV file with the columns `image` and `class` or `class_index`."""
    table = parse_path(given)
    first = next(csv_rows(table, ("image",)), (0, {}))[1]
    columns = [name for name in ("class", _INDEX) if name in first]
    if len(columns) != 1:
        raise AnnotationError(f"{table}: expected rows under image,class or image,{_INDEX}")
    if columns == [_INDEX] and file:
        raise CamcliError(f"--class-map is for labels, and {table} has the column {_INDEX}")
    finder = None if columns == [_INDEX] else _finder(file, model)
    label_of = finder.label if finder else _by_index(model)
    labels = _labels_in(table, columns[0], label_of)
    return Truth(f"{CSV}{table}", _shown(file), labels, finder)


def _labels_in(table: AnyPath, column: str, label_of: Callable[[str], Label]) -> dict[str, Label]:
    """Return the labels in a column of a CSV file, by the names of images."""
    found: dict[str, Label] = {}
    for number, row in csv_rows(table, ("image", column)):
        image, text, where = row["image"], (row[column] or "").strip(), f"{table}, line {number}"
        if not image or not text:
            raise AnnotationError(f"{where}: expected image,{column}")
        try:
            label = label_of(text)
        except AnnotationError as error:
            raise AnnotationError(f"{where}: {error}") from None
        if (other := found.setdefault(image, label)) != label:
            raise AnnotationError(
                f"{where}: {image} is '{label.name}' here, and '{other.name}' in an earlier line"
            )
    return found


def _by_index(model: Model) -> Callable[[str], Label]:
    """Return a function from the index of a class of the model to a label."""
    names, count = model.class_names, model.num_classes

    @cache
    def label_of(text: str) -> Label:
        index = int(text) if text.isdecimal() and len(text) < _DIGITS else -1
        if index < 0 or (count is not None and index >= count):
            upto = "" if count is None else f" to {count - 1}"
            raise AnnotationError(f"'{text}': expected the index of a class, from 0{upto}")
        return Label(names[index] if names else text, frozenset({index}))

    return label_of


def _folder_name(path: AnyPath) -> str:
    """Return the name of the folder that an image is in; nothing for standard input."""
    if isinstance(path, Path):
        return "" if path == STDIN else os.path.basename(os.path.dirname(os.path.abspath(path)))
    return path.parent.name


def _warn(which: str, found: _Tally) -> None:
    if found.count:
        listed = ", ".join(f"'{name}'" for name in found.names[:_NAMED])
        more = ", ..." if len(found.names) > _NAMED else ""
        warnings.warn(
            f"images without a true class: {found.count} {which}: {listed}{more}",
            CamcliWarning,
            stacklevel=2,
        )
