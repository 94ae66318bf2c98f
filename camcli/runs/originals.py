"""Find the images that were explained.

The manifest holds names and no paths. Files are looked for in the folders that a user names, in the
folder that holds the output folder, and in the folders beside it. Two photos can have the same name
(IMG_0001.jpg), so a row's digest decides whether a file is the explained one.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from camcli.images.decode import Reading
from camcli.images.store import AnyPath, RemotePath
from camcli.runs.ahead import Fetcher
from camcli.runs.manifest import Row
from camcli.runs.resume import environment_digest, input_digest

CHANGED = "not the explained file: it changed, or another version of camcli explained it"
NEARBY, PROBES = 64, 8
"""The most nearby folders on a store that are searched, and the images that are looked for in all
of them."""


@dataclass(frozen=True)
class Search:
    """The folders to search and how to recognise a file: `named` by the user, and `nearby` ones.

    `run_digest` is the part of the digests that all results of the run share, None if unknown.
    `reading` is how the run read its images. `fetched` are files that the first search for them
    returns, by names and digests. `fetcher` fetches files until a store has stopped.
    """

    named: Sequence[AnyPath]
    nearby: Sequence[AnyPath]
    run_digest: str | None
    reading: Reading
    fetched: dict[tuple[str, str], AnyPath] = field(default_factory=dict, repr=False)
    fetcher: Fetcher = field(default_factory=Fetcher, repr=False)

    @classmethod
    def of(cls, folder: AnyPath, run: Row, named: Sequence[AnyPath] = ()) -> Search:
        """Return the search for the images of an output folder, by the record of its run.

        `named` are folders to search first.
        """
        return cls(named, _nearby(folder), _run_digest(run), _reading(run))

    def narrowed(self, images: Sequence[tuple[str, str]]) -> Search:
        """Return the search in those nearby folders of a store that hold some of its images.

        `images` are names and digests as for `find`. PROBES of them, spread evenly, are looked for
        in all nearby folders, since each look is a request.
        """
        if not any(isinstance(root, RemotePath) for root in self.nearby):
            return self
        used: list[AnyPath] = []
        fetched = dict[tuple[str, str], AnyPath]()
        for name, digest in images[:: -(-len(images) // PROBES) or 1]:
            order = [*used, *(root for root in self.nearby if root not in used)]
            file, note = replace(self, nearby=order).find(name, digest)
            if file and not note:
                fetched[name, digest] = file
                used += [root for root in order[len(used) :] if root / name == file]
        return replace(self, nearby=used, fetched=fetched)

    def find(self, name: str, digest: str) -> tuple[AnyPath | None, str | None]:
        """Return the file of an image and a note on it. A file on a store has its content.

        `digest` is the second part of the digest of a row. A file with it comes first. Otherwise
        the first file of that name in a folder that the user named is taken, with a note. A nearby
        file that only has the name proves nothing.
        """
        if Path(name).is_absolute() or ".." in Path(name).parts:
            return None, None
        if file := self.fetched.pop((name, digest), None):
            return file, None
        known = digest if self.run_digest else ""
        first, note = None, None
        for root in (*self.named, *(self.nearby if known else ())):
            try:
                file = self._existing(root / name)
            except OSError as error:
                note = f"{root / name}: {error.strerror}"
                continue
            if file and (not known or input_digest(file, self.run_digest or "") == known):
                return file, None
            first = first or (file if root in self.named else None)
        return (first, CHANGED) if first else (None, note)

    def _existing(self, file: AnyPath) -> AnyPath | None:
        """Return a file if it exists; one on a store with its content. Raises OSError."""
        if not isinstance(file, RemotePath):
            return file if os.path.isfile(file) else None
        if why := self.fetcher.stopped:
            raise OSError(errno.EIO, why)
        try:
            return self.fetcher.fetch(file)
        except FileNotFoundError:
            return None


def _run_digest(run: Row) -> str | None:
    try:
        return environment_digest(run)
    except (KeyError, TypeError, AttributeError):  # a damaged run record
        return None


def _reading(run: Row) -> Reading:
    """Return how the run read its images, as far as its record says it."""
    try:
        frame, window = int(run.get("frame") or 1), run.get("window_level")
        level = (float(window[0]), float(window[1])) if window else None
    except (TypeError, ValueError, KeyError, IndexError, OverflowError):  # a damaged run record
        return Reading()
    usable = level and all(map(math.isfinite, level)) and level[1] > 0
    return Reading(frame=frame if frame > 1 else None, window_level=level if usable else None)


def _nearby(folder: AnyPath) -> list[AnyPath]:
    """Return the folder that holds the output folder, and the folders in it.

    On a store they are the first NEARBY ones, none around a whole bucket.
    """
    if isinstance(folder, RemotePath):
        return _nearby_on_store(folder.parent) if folder.key.strip("/") else []
    parent = Path(os.path.realpath(folder)).parent
    try:
        beside = sorted(one for one in parent.iterdir() if not one.name.startswith("."))
    except OSError:
        return []
    return [parent, *(one for one in beside if one.is_dir())]


def _nearby_on_store(parent: RemotePath) -> list[AnyPath]:
    try:
        beside = sorted((one for one in parent.folders() if one.name[:1] != "."), key=str)
    except OSError:
        return []
    return [parent, *beside[: NEARBY - 1]]
