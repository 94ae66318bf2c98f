"""Select images: lists of paths, and globs to include and exclude."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from fnmatch import fnmatchcase
from os import fsdecode

from camcli.errors import CamcliError
from camcli.images.regular import read_at_most
from camcli.images.source import Source
from camcli.images.store import parse_path

MAX_LIST = 2**30
"""The most bytes of a list that are read. A list may be a pipe, which has no size."""


def read_list(file: str) -> list[str]:
    """Return the paths in a file, or on standard input for `-`: one per line, or separated by NUL.

    Raises CamcliError.
    """
    try:
        given = nullcontext(sys.stdin.buffer) if file == "-" else parse_path(file).open("rb")
        with given as stream:
            data = read_at_most(stream, MAX_LIST)
    except OSError as error:
        raise CamcliError(f"--from-file '{file}': {error.strerror}") from None
    parts = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [fsdecode(part) for part in parts if part.strip()]


def filter_sources(
    sources: Sequence[Source], include: Sequence[str], exclude: Sequence[str]
) -> list[Source]:
    """Return the images that match a glob of `include`, if there are any, and none of `exclude`.

    A glob with a `/` is matched against the name below the output folder (`sub/cat.jpg`), any other
    glob against the file name.
    """
    return [
        source
        for source in sources
        if (not include or _matches(source, include)) and not _matches(source, exclude)
    ]


def _matches(source: Source, globs: Sequence[str]) -> bool:
    path, file = source.image, source.name.name
    return any(fnmatchcase(path if "/" in glob else file, glob) for glob in globs)
