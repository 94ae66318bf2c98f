"""Names of output files below the output folder, and the checks that no two results share one."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from camcli.errors import OutputError
from camcli.images.find import Source
from camcli.images.store import AnyPath, canonical
from camcli.methods.registry import METHODS
from camcli.runs.outputs import OUTPUTS


class Wanted(NamedTuple):
    """One result for each image. `layer` is None for the automatic layer, and where a method uses
    no layer."""

    method: str
    target: str
    layer: str | None = None


def every_result(
    methods: Sequence[str],
    targets: Sequence[str],
    layers: Sequence[str | None] = (None,),
    fuse: str | None = None,
) -> list[Wanted]:
    """Return the results for each image, in the order in which `explain` returns them."""
    at_layers = (fuse,) if fuse else layers
    return [
        Wanted(method, target, layer)
        for method in methods
        for target in targets
        for layer in (at_layers if METHODS[method].at_layer else (None,))
    ]


def name_of(source: Source, wanted: Wanted, output: str) -> Path:
    """Return the name of a result's file: `<stem>.<method>[.<target>][.<layer>]<ending>`.

    `output` is a name in OUTPUTS. The target `pred` is left out.
    """
    target = None if wanted.target == "pred" else wanted.target
    parts = [file_part(part) for part in (target, wanted.layer) if part]
    stem = ".".join([source.name.stem, wanted.method, *parts])
    return source.name.with_name(stem + OUTPUTS[output].ending)


def file_part(text: str) -> str:
    """Return a text for a file name. Characters that a file name cannot hold become `_`."""
    return re.sub(r'[/\\:*?"<>|\x00-\x1f]', "_", text)


def check_names(folder: AnyPath, sources: Sequence[Source], results: Sequence[Wanted]) -> None:
    """Raise OutputError if two results, or a result and an input, have the same file name."""
    parts = [name_of(sources[0], wanted, "map") for wanted in results] if sources else []
    if len(set(parts)) < len(parts):
        twice = next(part for part in parts if parts.count(part) > 1)
        raise OutputError(f"two methods, targets or layers would write the same file '{twice}'")
    check_stems(sources)
    top = f"{canonical(folder).rstrip('/')}/"
    inputs = {canonical(source.path) for source in sources}
    inside = {path.removeprefix(top) for path in inputs if path.startswith(top)}
    for source, wanted, output in itertools.product(sources if inside else (), results, OUTPUTS):
        name = name_of(source, wanted, output)
        if name.as_posix() in inside:
            raise OutputError(
                f"'{folder / name}' is an input and would be written over: name another folder"
            )


def check_stems(sources: Iterable[Source]) -> None:
    """Raise OutputError for images whose names differ in their suffix only."""
    first: dict[str, Source] = {}
    for source in sources:
        stem = os.path.splitext(source.name)[0]
        other = first.setdefault(stem, source)
        if other is not source:
            raise OutputError(
                f"'{other.path}' and '{source.path}' would write the same files: "
                f"explain them into two output folders, or give a folder that holds both"
            )
