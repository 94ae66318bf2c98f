"""Which of the images found are to be explained: lists of paths, globs, shards."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from os import fsdecode

from camcli.errors import CamcliError
from camcli.images.find import Source
from camcli.images.store import place


def read_list(file: str) -> list[str]:
    """The paths in a file, or for `-` on standard input: one a line, or with NULs between them.

    Raises CamcliError.
    """
    try:
        data = sys.stdin.buffer.read() if file == "-" else place(file).read_bytes()
    except OSError as error:
        raise CamcliError(f"--from-file '{file}': {error.strerror}") from None
    parts = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [fsdecode(part) for part in parts if part.strip()]


def matching(
    sources: Sequence[Source], include: Sequence[str], exclude: Sequence[str]
) -> list[Source]:
    """The images that match one of `include`, if any is given, and none of `exclude`.

    A glob is held against the name below the output folder (`sub/cat.jpg`), and if it has no `/`,
    against the last part alone.
    """
    return [
        source
        for source in sources
        if (not include or _matches(source, include)) and not _matches(source, exclude)
    ]


def _matches(source: Source, globs: Sequence[str]) -> bool:
    whole, last = source.name.as_posix(), source.name.name
    return any(fnmatchcase(whole if "/" in glob else last, glob) for glob in globs)
