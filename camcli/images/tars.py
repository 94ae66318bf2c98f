"""Read the members of tars, by paths in which the tar stands like a folder.

`camcli explain --save-to tar` packs the files of results into tars, and a row of the manifest then
names a file such as `results-000003.tar/n01/x.gradcam.npy`. All files of results are opened here,
whether they are members of a tar or not.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import tarfile
import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from camcli.images.regular import open_regular
from camcli.images.store import AnyPath, RemotePath

MEMBER_BYTES = 1 << 30
"""The largest member that is read."""
_NAME = r"results-(?:\d+-of-\d+-)?(\d{6,})\.tar"
_START, _PART = re.compile(rf"({_NAME})/(.+)", re.DOTALL), re.compile(rf"(?:^|/){_NAME}(?=/)")
_INDEXES = 16
"""The tars whose members are known at a time. An index takes some 2 MB."""


def tar_name(number: int, shard: str | None = None) -> str:
    """Return the name of a tar of a run, or of one of its shards."""
    return f"results-{shard}-{number:06}.tar" if shard else f"results-{number:06}.tar"


def tar_number(name: str) -> int:
    """Return the number in the name of a tar, -1 for another name."""
    found = re.fullmatch(_NAME, name)
    return int(found[1]) if found else -1


def split_name(name: str) -> tuple[str | None, str]:
    """Return the tar and the member that the name of a result's file stands for.

    The tar is None for the name of a file.
    """
    found = _START.fullmatch(name)
    return (found[1], found[3]) if found else (None, name)


def in_tar(path: Path) -> tuple[Path, str] | None:
    """Return the tar that a path leads into, and the name of the member; None for other paths."""
    text = path.as_posix()
    for found in _PART.finditer(text):
        if os.path.isfile(tar := text[: found.end()]):
            return Path(tar), text[found.end() + 1 :]
    return None


def is_member(path: AnyPath) -> bool:
    """Return whether a path leads into a tar; on a store, by its name alone."""
    if isinstance(path, RemotePath):
        return bool(_PART.search(path.key))
    return in_tar(path) is not None


def open_file(path: AnyPath) -> BinaryIO:
    """Open a file, or a member of a tar, as `open_regular` does, to seek in it.

    A file on a store is read as a whole. Raises OSError, also for a tar on a store.
    """
    if isinstance(path, RemotePath):
        if path.content is None and is_member(path):
            raise OSError(errno.EINVAL, "in a tar on a store: copy the tar to this machine")
        return io.BytesIO(path.read_bytes())
    place = in_tar(path)
    return io.BytesIO(_read(*place)) if place else open_regular(path)


def is_file(path: Path) -> bool:
    """Return whether a file, or a member of a tar, exists."""
    if (place := in_tar(path)) is None:
        return os.path.isfile(path)
    with contextlib.suppress(OSError), open_regular(place[0]) as stream:
        return place[1] in _members(place[0], stream)
    return False


def _read(tar: Path, name: str) -> bytes:
    with open_regular(tar) as stream:
        offset, size = _members(tar, stream).get(name, (0, -1))
        if size < 0:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if size > MEMBER_BYTES:
            raise OSError(errno.EFBIG, f"larger than {MEMBER_BYTES / 1e6:.0f} MB")
        stream.seek(offset)
        data = stream.read(size)
    if len(data) < size:
        raise OSError(errno.EIO, "the tar ends in the middle of the file")
    return data


def _members(tar: Path, stream: BinaryIO) -> Mapping[str, tuple[int, int]]:
    status = os.fstat(stream.fileno())
    with _reading:  # once, in whichever thread
        return _index(str(tar), status.st_size, status.st_mtime_ns)


_reading = threading.Lock()


@lru_cache(maxsize=_INDEXES)
def _index(tar: str, size: int, changed: int) -> Mapping[str, tuple[int, int]]:
    """Return the place and the size of each file in a tar, by name.

    `size` and `changed` are those of the tar, so that another version of it has another index. The
    files of a damaged tar are those before the damage.
    """
    found: dict[str, tuple[int, int]] = {}
    with (
        open_regular(Path(tar)) as stream,
        contextlib.suppress(tarfile.TarError, EOFError, ValueError, LookupError, ArithmeticError),
        tarfile.open(fileobj=stream, mode="r:", encoding="utf-8") as members,
    ):
        while member := members.next():
            if member.isreg() and not member.issparse():
                found[member.name] = member.offset_data, member.size
            members.members = []  # type: ignore[attr-defined]  # which it would keep
    return found
