"""What is written: names, whole files or none, and the two records of a run."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, overload

from camcli.errors import OutputError, WriteError
from camcli.images import RECORDS, Source
from camcli.methods import METHODS
from camcli.remote import Place, Remote, real

MANIFEST, RUN = RECORDS
SHARDS = "shards"
"""The folder below an output folder that holds the records of its shards."""
Adder: TypeAlias = Callable[[Iterable[Any]], None]
"""Adds rows to a manifest."""
JOURNALS = ".camcli"
"""The folder of journals on a store, where a listing of all that a run wrote would take long."""
JOURNAL_SECONDS = 60.0
"""How often the rows of a run are sent to a store's journal: files there cannot grow."""
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


def check_names(folder: Place, sources: Sequence[Source], results: Sequence[Wanted]) -> None:
    """Refuse a run in which two results, or a result and an input, are the same file.

    Raises OutputError.
    """
    parts = [name_of(sources[0], wanted, "map") for wanted in results] if sources else []
    if len(set(parts)) < len(parts):
        twice = next(part for part in parts if parts.count(part) > 1)
        raise OutputError(f"two methods, targets or layers would write the same file '{twice}'")
    check_stems(sources)
    top = f"{real(folder).rstrip('/')}/"
    inputs = {real(source.path) for source in sources}
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


def prepare(folder: Place) -> None:
    """Make the output folder and see that it can be written to. Raises OutputError."""
    try:
        if isinstance(folder, Remote):
            probe = folder / JOURNALS / f"{mark()}.probe"
            probe.write_bytes(b"")
            probe.unlink()
            return
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write to '{folder}': {error.strerror}") from None


def mark() -> str:
    """Whose unfinished files are: this process's, among those of all machines on one disk."""
    return f"{os.getpid()}@{re.sub(r'[^A-Za-z0-9]', '_', socket.gethostname())}"


def write(file: Place, data: bytes, owner: str | None = None) -> None:
    """Write a whole file or none: a temporary one beside it, renamed when complete.

    It bears the mark of its `owner`, who clears up what was left; without one, of this process.
    """
    with _naming(file):
        if isinstance(file, Remote):
            file.write_bytes(data)
            return
        temporary = file.with_name(f".camcli-{owner or mark()}-{os.urandom(6).hex()}.tmp")
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _naming(file: Place) -> Iterator[None]:
    """What the system refuses inside becomes a WriteError with the file's name."""
    try:
        yield
    except OSError as error:
        raise WriteError(f"cannot write '{file}': {error.strerror}") from None


def to_json(value: Any, indent: int | None = None) -> bytes:
    """JSON as it is written and printed; a file name's undecodable bytes become `\\udcXX`."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent) + "\n"
    return text.encode(errors="backslashreplace")


@overload
def within(folder: Path, name: Any) -> Path: ...
@overload
def within(folder: Place, name: Any) -> Place: ...
def within(folder: Place, name: Any) -> Place:
    """A file of an output folder, to be written, read or removed: it must lie below the folder.

    A manifest may name any, and a link in the folder may lead anywhere. Raises OutputError.
    """
    path, inside = Path(str(name)), True
    if isinstance(folder, Path):
        parent, top = os.path.realpath((folder / path).parent), os.path.realpath(folder)
        inside = os.path.commonpath([parent, top]) == top
    if path.is_absolute() or ".." in path.parts or not path.parts or not inside:
        raise OutputError(f"'{name}' would lie outside of its folder '{folder}'")
    return folder / path


def record_name(record: str, shard: str | None = None) -> str:
    """Where MANIFEST or RUN lies below an output folder: of the whole run, or of a shard."""
    return record if shard is None else f"{SHARDS}/{shard}.{record}"


def journals(manifest: Place) -> list[Place]:
    """The journals that killed and running runs left for a manifest, oldest part first."""
    folder = manifest.parent / JOURNALS if isinstance(manifest, Remote) else manifest.parent
    return sorted(folder.glob(f".camcli-*.{manifest.name}"), key=str)


def manifest(file: Place, *, even_empty: bool = False) -> AbstractContextManager[Adder]:
    """Gives what adds rows to a manifest, which gets its name when the run ends, however it ends.

    Without a single row it does not, unless none was to be expected, and the manifest of an earlier
    run stays. Raises WriteError.
    """
    if isinstance(file, Remote):
        return _stored_manifest(file, even_empty)
    return _local_manifest(file, even_empty)


@contextlib.contextmanager
def _local_manifest(file: Path, even_empty: bool) -> Iterator[Adder]:
    partial = file.with_name(f".camcli-{mark()}.{file.name}")
    with _naming(file):
        file.parent.mkdir(parents=True, exist_ok=True)
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
            if even_empty or partial.stat().st_size:
                partial.replace(file)
            else:
                partial.unlink()


@contextlib.contextmanager
def _stored_manifest(file: Remote, even_empty: bool) -> Iterator[Adder]:
    """Rows are collected on the local disk; what is new of them is sent now and then as a part."""
    parts: list[Remote] = []
    sent, due = 0, time.monotonic() + JOURNAL_SECONDS
    with tempfile.TemporaryFile() as stream:

        def add(rows: Iterable[Any]) -> None:
            nonlocal sent, due
            stream.writelines(map(to_json, rows))
            if time.monotonic() < due:
                return
            with _naming(file):
                name = f".camcli-{mark()}-{len(parts):06}.{file.name}"
                parts.append(file.parent / JOURNALS / name)
                stream.seek(sent)
                parts[-1].write_from(stream)
            sent, due = stream.tell(), time.monotonic() + JOURNAL_SECONDS

        try:
            yield add
        finally:
            with _naming(file):
                if stream.tell() or even_empty:
                    stream.seek(0)
                    file.write_from(stream)
                for part in parts:
                    part.unlink(missing_ok=True)
