"""Names of output files below the output folder, and the checks that no two results share one."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from camcli.errors import OutputError
from camcli.images.find import Source
from camcli.images.store import AnyPath, canonical
from camcli.methods.registry import METHODS
from camcli.runs.outputs import OUTPUTS, named_files
from camcli.runs.rows import Rows


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

    The stem has the folders of the image's name, and its suffix if the source `keeps_suffix`.

    `output` is a name in OUTPUTS. The target `pred` is left out.
    """
    target = None if wanted.target == "pred" else wanted.target
    parts = [file_part(part) for part in (target, wanted.layer) if part]
    return Path(".".join([source.stem, wanted.method, *parts]) + OUTPUTS[output].ending)


def file_part(text: str) -> str:
    """Return a text for a file name. Characters that a file name cannot hold become `_`."""
    return re.sub(r'[/\\:*?"<>|\x00-\x1f]', "_", text)


def check_results(results: Sequence[Wanted]) -> None:
    """Raise OutputError if two results of an image have the same file name."""
    some = Source(Path("image.jpg"), Path("image.jpg"))
    counts = Counter(name_of(some, wanted, "map").name for wanted in results)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise OutputError(f"two methods, targets or layers would write the same file '{twice[0]}'")


def check_inputs(folder: AnyPath, sources: Sequence[Source], results: Sequence[Wanted]) -> None:
    """Raise OutputError if a result has the file name of an input."""
    top = f"{canonical(folder).rstrip('/')}/"
    inputs = {canonical(source.path) for source in sources}
    inside = {path.removeprefix(top) for path in inputs if path.startswith(top)}
    for source, wanted, output in itertools.product(sources if inside else (), results, OUTPUTS):
        name = name_of(source, wanted, output)
        if name.as_posix() in inside:
            raise OutputError(
                f"'{folder / name}' is an input and would be written over: name another folder"
            )


def unique_stems(sources: Sequence[Source], rows: Rows | None = None) -> list[Source]:
    """Return the sources, where those keep their suffix whose files would have another's names.

    `rows` are those of the output folder, whose images keep the names of their files. Raises
    OutputError for names that would still be the same.
    """
    counts = Counter(source.stem for source in sources)
    found = [_unique(source, counts[source.stem] > 1, rows) for source in sources]
    whole = {source.stem for source in found if source.keeps_suffix}
    if not whole:
        return found
    # An image may be named `3.png.jpg` beside `3.png`.
    found = [replace(one, keeps_suffix=True) if one.stem in whole else one for one in found]
    first: dict[str, Source] = {}
    for source in found:
        other = first.setdefault(source.stem, source)
        if other is not source:
            raise OutputError(
                f"'{other.path}' and '{source.path}' would write the same files: "
                f"explain them into two output folders"
            )
    return found


def _unique(source: Source, collides: bool, rows: Rows | None) -> Source:
    """Return a source that keeps its suffix if its stem collides with that of another image."""
    name, stem = source.name.as_posix(), source.stem
    if source.keeps_suffix:
        return source
    if rows:
        others = (Source(Path(), Path(image)) for image in rows.images(f"{stem}.", f"{stem}/"))
        collides |= any(other.stem == stem and other.name != source.name for other in others)
        if collides:
            files = [file for row in rows.of_image(name) for file in named_files(row).values()]
            collides = not files or files[0].startswith(f"{name}.")
    return replace(source, keeps_suffix=True) if collides else source
