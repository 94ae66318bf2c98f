"""Names of output files, and the fields that hold them."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from camcli.errors import OutputError
from camcli.images.find import Source
from camcli.images.store import AnyPath, canonical
from camcli.methods.registry import METHODS

SAVES = {
    "overlay": ".png",
    "map": ".npy",
    "heatmap": ".heatmap.png",
    "panel": ".panel.png",
    "boxes": ".boxes.png",
}
"""What can be saved, and how its file name ends."""


FIELDS = {what: "boxes_overlay" if what == "boxes" else what for what in SAVES}
"""What can be saved, and the field of a manifest row that names its file; `boxes` are numbers."""


class Wanted(NamedTuple):
    """One result for each image. `layer` is None for the automatic one and where none is taken."""

    method: str
    target: str
    layer: str | None = None


def every_result(
    methods: Sequence[str],
    targets: Sequence[str],
    layers: Sequence[str | None] = (None,),
    fuse: str | None = None,
) -> list[Wanted]:
    """What these come to for each image, in the order in which `explain` gives it."""
    at_layers = (fuse,) if fuse else layers
    return [
        Wanted(method, target, layer)
        for method in methods
        for target in targets
        for layer in (at_layers if METHODS[method].at_layer else (None,))
    ]


def name_of(source: Source, wanted: Wanted, what: str) -> Path:
    """Where a result goes below the output folder: `<stem>.<method>[.<target>][.<layer>]<ending>`.

    The target is left out for `pred`; what a file name cannot hold becomes `_`.
    """
    target = None if wanted.target == "pred" else wanted.target
    parts = [re.sub(r'[/\\:*?"<>|\x00-\x1f]', "_", part) for part in (target, wanted.layer) if part]
    stem = ".".join([source.name.stem, wanted.method, *parts])
    return source.name.with_name(stem + SAVES[what])


def named(row: Mapping[str, Any]) -> dict[str, str]:
    """The files that a manifest row names, by what they are."""
    return {what: row[field] for what, field in FIELDS.items() if row.get(field)}


def first_file(row: Mapping[str, Any]) -> str | None:
    """The file of a row to look at first: a picture, or the map where there is none."""
    files = named(row)
    order = ("overlay", "panel", "heatmap", "boxes", "map")
    return next((files[what] for what in order if what in files), None)


def check_names(folder: AnyPath, sources: Sequence[Source], results: Sequence[Wanted]) -> None:
    """Refuse a run in which two results, or a result and an input, are the same file.

    Raises OutputError.
    """
    parts = [name_of(sources[0], wanted, "map") for wanted in results] if sources else []
    if len(set(parts)) < len(parts):
        twice = next(part for part in parts if parts.count(part) > 1)
        raise OutputError(f"two methods, targets or layers would write the same file '{twice}'")
    check_stems(sources)
    top = f"{canonical(folder).rstrip('/')}/"
    inputs = {canonical(source.path) for source in sources}
    inside = {path.removeprefix(top) for path in inputs if path.startswith(top)}
    for source, wanted, what in itertools.product(sources if inside else (), results, SAVES):
        name = name_of(source, wanted, what)
        if name.as_posix() in inside:
            raise OutputError(
                f"'{folder / name}' is an input and would be written over: name another folder"
            )


def check_stems(sources: Iterable[Source]) -> None:
    """Refuse images that differ in their suffix alone. Raises OutputError."""
    first: dict[str, Source] = {}
    for source in sources:
        stem = os.path.splitext(source.name)[0]
        other = first.setdefault(stem, source)
        if other is not source:
            raise OutputError(
                f"'{other.path}' and '{source.path}' would write the same files: "
                f"explain them into two output folders, or give a folder that holds both"
            )
