"""Select images: lists of paths, and globs to include and exclude."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from fnmatch import fnmatchcase
from os import fsdecode

from camcli.errors import CamcliError
from camcli.images.listing import Listing
from camcli.images.regular import read_at_most
from camcli.images.store import parse_path

MAX_LIST = 2**30
"""The most bytes of a list that are read. A list may be a pipe, which has no size."""


def read_list(file: str) -> Iterator[str]:
    """Yield the paths in a file, or on standard input for `-`: one per line, or separated by NUL.

    Raises CamcliError.
    """
    try:
        given = nullcontext(sys.stdin.buffer) if file == "-" else parse_path(file).open("rb")
        with given as stream:
            data = read_at_most(stream, MAX_LIST)
    except OSError as error:
        raise CamcliError(f"--from-file '{file}': {error.strerror}") from None
    for part in re.finditer(rb"[^\0]+" if b"\0" in data else rb"[^\r\n]+", data):
        if part[0].strip():
            yield fsdecode(part[0])


def filter_sources(found: Listing, include: Sequence[str], exclude: Sequence[str]) -> Listing:
    """Return the images that match a glob of `include`, if there are any, and none of `exclude`.

    A glob with a `/` is matched against the name below the output folder (`sub/cat.jpg`), any other
    glob against the file name.
    """
    if not include and not exclude:
        return found
    return found.where(
        (not include or _matches(image, include)) and not _matches(image, exclude)
        for image in found.images()
    )


def _matches(image: str, globs: Sequence[str]) -> bool:
    file = image.rpartition("/")[2]
    return any(fnmatchcase(image if "/" in glob else file, glob) for glob in globs)
