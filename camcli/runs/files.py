"""What is written: names, whole files or none, and the two records of a run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, overload

from camcli.errors import OutputError, WriteError
from camcli.images.store import AnyPath, RemotePath

JOURNALS = ".camcli"
"""The folder of journals on a store, where a listing of all that a run wrote would take long."""


def prepare(folder: AnyPath) -> None:
    """Make the output folder and see that it can be written to. Raises OutputError."""
    try:
        if isinstance(folder, RemotePath):
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


def write(file: AnyPath, data: bytes, owner: str | None = None) -> None:
    """Write a whole file or none: a temporary one beside it, renamed when complete.

    It bears the mark of its `owner`, who clears up what was left; without one, of this process.
    """
    with named_errors(file):
        if isinstance(file, RemotePath):
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
def named_errors(file: AnyPath) -> Iterator[None]:
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
def within(folder: AnyPath, name: Any) -> AnyPath: ...


def within(folder: AnyPath, name: Any) -> AnyPath:
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
