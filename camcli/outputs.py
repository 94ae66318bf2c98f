"""What is written: names, whole files or none, and the two records of a run."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from camcli.errors import OutputError, WriteError
from camcli.images import Source
from camcli.methods import METHODS

MANIFEST = "manifest.jsonl"
RUN = "run.json"
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


def check_names(folder: Path, sources: Sequence[Source], results: Sequence[Wanted]) -> None:
    """Refuse a run in which two results, or a result and an input, are the same file.

    Raises OutputError.
    """
    parts = [name_of(sources[0], wanted, "map") for wanted in results] if sources else []
    if len(set(parts)) < len(parts):
        twice = next(part for part in parts if parts.count(part) > 1)
        raise OutputError(f"two methods, targets or layers would write the same file '{twice}'")
    first: dict[Path, Source] = {}
    for source in sources:
        other = first.setdefault(source.name.with_suffix(""), source)
        if other is not source:
            raise OutputError(
                f"'{other.path}' and '{source.path}' would write the same files: "
                f"explain them into two output folders, or give a folder that holds both"
            )
    inputs = {os.path.realpath(source.path) for source in sources}
    for source, wanted, what in itertools.product(sources, results, SAVES):
        file = folder / name_of(source, wanted, what)
        if os.path.abspath(file) in inputs:
            raise OutputError(
                f"'{file}' is an input and would be written over: name another folder"
            )


def prepare(folder: Path) -> None:
    """Make the output folder and see that it can be written to. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write to '{folder}': {error.strerror}") from None


def write(file: Path, data: bytes) -> None:
    """Write a whole file or none: a temporary one beside it, renamed when complete."""
    temporary = file.with_name(f".camcli-{os.getpid()}-{threading.get_ident()}.tmp")
    with _naming(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _naming(file: Path) -> Iterator[None]:
    """What the system refuses inside becomes a WriteError with the file's name."""
    try:
        yield
    except OSError as error:
        raise WriteError(f"cannot write '{file}': {error.strerror}") from None


def to_json(value: Any, indent: int | None = None) -> bytes:
    """JSON as it is written and printed; a file name's undecodable bytes become `\\udcXX`."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent) + "\n"
    return text.encode(errors="backslashreplace")


def within(folder: Path, name: Any) -> Path:
    """A file of an output folder, to be written, read or removed: it must lie below the folder.

    A manifest may name any, and a link in the folder may lead anywhere. Raises OutputError.
    """
    path, top = Path(str(name)), os.path.realpath(folder)
    parent = os.path.realpath((folder / path).parent)
    inside = os.path.commonpath([parent, top]) == top
    if path.is_absolute() or ".." in path.parts or not path.parts or not inside:
        raise OutputError(f"'{name}' would lie outside of its folder '{folder}'")
    return folder / path


@contextlib.contextmanager
def manifest(folder: Path) -> Iterator[Callable[[Iterable[Any]], None]]:
    """Gives what adds rows to the manifest, which gets its name when the run ends, however it ends.

    Without a single row it does not, and the manifest of an earlier run stays. Raises WriteError.
    """
    file, partial = folder / MANIFEST, folder / f".camcli-{os.getpid()}.{MANIFEST}"
    with _naming(file):
        stream = partial.open("wb")

    def add(rows: Iterable[Any]) -> None:
        with _naming(file):
            stream.writelines(map(to_json, rows))
            stream.flush()  # what a killed run has done is there for the next to find

    try:
        yield add
    finally:
        with _naming(file):
            stream.close()
            if partial.stat().st_size:
                partial.replace(file)
            else:
                partial.unlink()
