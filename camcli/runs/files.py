"""Write whole files or none, below the output folder only."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, overload

from camcli.errors import OutputError, WriteError
from camcli.images.store import AnyPath, RemotePath

JOURNALS = ".camcli"
"""The folder of journals on a store. Finding them without it would take a listing of everything."""


def prepare(folder: AnyPath) -> None:
    """Create the output folder and check that it can be written to. Raises OutputError."""
    try:
        if isinstance(folder, RemotePath):
            probe = folder / JOURNALS / f"{process_mark()}.probe"
            probe.write_bytes(b"")
            probe.unlink()
            return
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write to '{folder}': {error.strerror}") from None


def process_mark() -> str:
    """Return the mark of this process in the names of its unfinished files.

    It has the host's name, as several machines may write to one disk.
    """
    return f"{os.getpid()}@{re.sub(r'[^A-Za-z0-9]', '_', socket.gethostname())}"


MARK = re.compile(r"\.camcli-((\d+)(?:@(\w+))?)[-.]")
"""The beginning of the names of unfinished files: the process, and its host if it is known."""
DAY = 86_400
"""The seconds without growth after which a file of another machine belongs to a dead run."""


def is_dead(file: AnyPath, changed: float) -> bool:
    """Return whether the process that marked an unfinished file has ended.

    `changed` is the time of the file's last change, which decides on another machine.
    """
    found = MARK.match(file.name)
    if found is None:
        return False
    if found[3] and found[3] != process_mark().partition("@")[2]:
        return time.time() - changed > DAY
    try:
        os.kill(int(found[2]), 0)
    except ProcessLookupError:
        return True
    except OSError:  # the process belongs to another user
        return False
    return False


def write(file: AnyPath, data: bytes, owner: str | None = None) -> None:
    """Write a file as a whole: write it under a temporary name in its folder, then rename it.

    The temporary name contains `owner`, by default the mark of this process, so that unfinished
    files can be found and removed after a crash. Raises WriteError.
    """
    with write_errors(file):
        if isinstance(file, RemotePath):
            file.write_bytes(data)
            return
        with replaced(file, owner) as temporary:
            temporary.write_bytes(data)


def write_lines(file: AnyPath, lines: Iterable[bytes]) -> None:
    """Write a file of lines as a whole, without all of them in memory. Raises WriteError."""
    with whole(file) as stream:
        stream.writelines(lines)


@contextlib.contextmanager
def whole(file: AnyPath, owner: str | None = None) -> Iterator[BinaryIO]:
    """Open a file to write inside, which appears on leaving, unless an error is raised.

    `owner` is as for `write`. A file for a store is on this machine until then. Raises WriteError.
    """
    with write_errors(file):
        if isinstance(file, RemotePath):
            with tempfile.TemporaryFile() as stream:
                yield stream
                stream.seek(0)
                file.write_from(stream)
            return
        with replaced(file, owner) as temporary, temporary.open("wb") as stream:
            yield stream


@contextlib.contextmanager
def replaced(file: Path, owner: str | None = None) -> Iterator[Path]:
    """Yield a temporary name for a file, which is renamed on leaving, unless an error is raised."""
    temporary = file.with_name(f".camcli-{owner or process_mark()}-{os.urandom(6).hex()}.tmp")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def write_errors(file: AnyPath) -> Iterator[None]:
    """Turn an OSError inside into a WriteError with the file's name."""
    try:
        yield
    except OSError as error:
        raise WriteError(f"cannot write '{file}': {error.strerror}") from None


def to_json(value: Any, indent: int | None = None) -> bytes:
    """Return a value as JSON with a final newline. Undecodable bytes in names become `\\udcXX`."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent) + "\n"
    return text.encode(errors="backslashreplace")


@overload
def path_inside(folder: Path, name: Any) -> Path: ...
@overload
def path_inside(folder: AnyPath, name: Any) -> AnyPath: ...
def path_inside(folder: AnyPath, name: Any) -> AnyPath:
    """Return the path of a file in an output folder, after checking that it lies below the folder.

    The check is needed since a manifest may name any path, and a link in the folder may lead
    elsewhere. Raises OutputError.
    """
    path, inside = Path(str(name)), True
    if isinstance(folder, Path):
        parent, top = os.path.realpath((folder / path).parent), os.path.realpath(folder)
        inside = os.path.commonpath([parent, top]) == top
    if path.is_absolute() or ".." in path.parts or not path.parts or not inside:
        raise OutputError(f"'{name}' would lie outside of its folder '{folder}'")
    return folder / path
