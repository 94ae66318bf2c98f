"""Open and read regular files only. A named pipe or a device could be read for ever."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

from camcli.images.store import AnyPath, RemotePath

TOTAL, _LEAST = 8, 1024
"""The most bytes that are read of a large file, in parts, and what a read counts at least."""
KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
"""The kinds of files that are refused, by the bits of their mode."""


def open_regular(path: AnyPath) -> BinaryIO:
    """Open a file as a stream of bytes, without waiting for a writer.

    Raises OSError, with one line in `strerror`, for a file that is not regular.
    """
    if isinstance(path, RemotePath):
        return path.open("rb")
    return open(path, "rb", opener=_opened)


def open_seekable(path: AnyPath) -> BinaryIO:
    """Open a file as `open_regular` does, to seek in it. One on a store is copied to the disk."""
    stream = open_regular(path)
    if not isinstance(path, RemotePath):
        return stream
    with stream, contextlib.ExitStack() as stack:
        copy = cast(BinaryIO, stack.enter_context(tempfile.TemporaryFile()))
        shutil.copyfileobj(stream, copy, 1 << 20)
        copy.seek(0)
        stack.pop_all()
    return copy


def read_regular(path: AnyPath, limit: int) -> bytes:
    """Read a file of at most `limit` bytes.

    Raises OSError, with one line in `strerror`, for a larger file, which is not read to its end,
    and for a file that is not regular.
    """
    with open_regular(path) as stream:
        return read_at_most(stream, limit)


def read_at_most(stream: BinaryIO, limit: int) -> bytes:
    """Read a stream to its end. Raises OSError once it has given more than `limit` bytes."""
    data = bytearray()
    while part := stream.read(1 << 20):
        data += part
        if len(data) > limit:
            raise OSError(errno.EFBIG, f"larger than {limit / 1e6:g} MB")
    return bytes(data)


class _Limited(io.BufferedReader):
    """A file of which at most `part` bytes are read at once, and TOTAL times as many in all."""

    def __init__(self, raw: io.RawIOBase, part: int) -> None:
        super().__init__(raw)
        self.part = part
        self.left = TOTAL * part

    def read(self, size: int | None = -1, /) -> bytes:
        return self._within(super().read(self._wanted(size)))

    def readline(self, size: int | None = -1, /) -> bytes:
        return self._within(super().readline(self._wanted(size)))

    def _wanted(self, size: int | None) -> int:
        return self.part + 1 if size is None or size < 0 else min(size, self.part + 1)

    def _within(self, found: bytes) -> bytes:
        self.left -= max(len(found), _LEAST)
        if len(found) > self.part or self.left < 0:
            raise OSError(
                errno.EFBIG, f"a file of more than {self.part / 1e6:.0f} MB is read whole"
            )
        return found


def limited(stream: BinaryIO, part: int) -> BinaryIO:
    """Return a stream for a reader that may read the whole of a file, where that is too large.

    A file of at most `part` bytes is not limited. A larger one raises OSError once more than that
    is read at once, or TOTAL times as much in all. The result takes the place of the given stream.
    """
    if not isinstance(stream, io.BufferedReader) or os.fstat(stream.fileno()).st_size <= part:
        return stream
    return _Limited(stream.detach(), part)


def check_regular(path: Path) -> None:
    """Raise OSError for a file that is not regular, for readers that take no stream."""
    open_regular(path).close()


def _opened(path: str, flags: int) -> int:
    number = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
    mode = os.fstat(number).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # `open` has its own error for a folder
        return number
    os.close(number)
    raise OSError(errno.EINVAL, f"{KINDS.get(stat.S_IFMT(mode), 'no file')}, not a regular file")
