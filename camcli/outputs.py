"""What is written: names, whole files or none, and the two records of a run."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from camcli.errors import OutputError, WriteError
from camcli.images import Source

MANIFEST = "manifest.jsonl"
RUN = "run.json"
SAVES = {"overlay": ".png", "map": ".npy", "heatmap": ".heatmap.png", "panel": ".panel.png"}
"""What can be saved, and how its file name ends."""


def name_of(source: Source, method: str, target: str, what: str) -> Path:
    """Where a result goes below the output folder: `<stem>.<method>[.<target>]<ending>`.

    The target is left out for `pred`; what a file name cannot hold becomes `_`.
    """
    part = "" if target == "pred" else "." + re.sub(r'[/\\:*?"<>|\x00-\x1f]', "_", target)
    return source.name.with_name(f"{source.name.stem}.{method}{part}{SAVES[what]}")


def check_names(
    folder: Path, sources: Sequence[Source], methods: Sequence[str], targets: Sequence[str]
) -> None:
    """Refuse a run in which two results, or a result and an input, are the same file.

    Raises OutputError.
    """
    parts = [name_of(sources[0], m, t, "map") for m in methods for t in targets] if sources else []
    if len(set(parts)) < len(parts):
        twice = next(part for part in parts if parts.count(part) > 1)
        raise OutputError(f"two methods or targets would write the same file '{twice}'")
    first: dict[Path, Source] = {}
    for source in sources:
        other = first.setdefault(source.name.with_suffix(""), source)
        if other is not source:
            raise OutputError(
                f"'{other.path}' and '{source.path}' would write the same files: "
                f"explain them into two output folders, or give a folder that holds both"
            )
    inputs = {os.path.realpath(source.path) for source in sources}
    for source, method, target, what in itertools.product(sources, methods, targets, SAVES):
        file = folder / name_of(source, method, target, what)
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
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(f"cannot write '{file}': {error.strerror}") from None


def to_json(value: Any, indent: int | None = None) -> bytes:
    """JSON as it is written and printed; a file name's undecodable bytes become `\\udcXX`."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent) + "\n"
    return text.encode(errors="backslashreplace")


def within(folder: Path, name: Any) -> Path:
    """A file that a manifest names. It may be read and removed, so it must be below its folder.

    Raises OutputError.
    """
    path, top = Path(str(name)), os.path.realpath(folder)
    parent = os.path.realpath((folder / path).parent)
    inside = os.path.commonpath([parent, top]) == top
    if path.is_absolute() or ".." in path.parts or not path.parts or not inside:
        raise OutputError(f"'{folder / MANIFEST}' names '{name}', which is not below its folder")
    return folder / path


@contextlib.contextmanager
def manifest(folder: Path) -> Iterator[BinaryIO]:
    """The manifest to write rows into; it takes its name when the run ends, however it ends.

    Without a single row it does not, and the manifest of an earlier run stays.
    """
    partial = folder / f".camcli-{os.getpid()}.{MANIFEST}"
    try:
        with partial.open("wb") as stream:
            yield stream
    finally:
        if partial.stat().st_size:
            partial.replace(folder / MANIFEST)
        else:
            partial.unlink()
