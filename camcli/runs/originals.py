"""Find the images that were explained.

The manifest holds names and no paths. Files are looked for in the folders that a user names, in the
folder that holds the output folder, and in the folders beside it. Two photos can have the same name
(IMG_0001.jpg), so a row's digest decides whether a file is the explained one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from camcli.images.decode import Reading
from camcli.runs.manifest import Row
from camcli.runs.resume import environment_digest, input_digest

CHANGED = "not the explained file: it changed, or another version of camcli explained it"


@dataclass(frozen=True)
class Search:
    """The folders to search and how to recognise a file: `named` by the user, and `nearby` ones.

    `run_digest` is the part of the digests that all results of the run share, None if unknown.
    `reading` is how the run read its images.
    """

    named: Sequence[Path]
    nearby: Sequence[Path]
    run_digest: str | None
    reading: Reading

    @classmethod
    def of(cls, folder: Path, run: Row, named: Sequence[Path] = ()) -> Search:
        """Return the search for the images of an output folder, by the record of its run.

        `named` are folders to search first.
        """
        return cls(named, _nearby(folder), _run_digest(run), _reading(run))

    def find(self, name: str, digest: str) -> tuple[Path | None, str | None]:
        """Return the file of an image and a note on it.

        `digest` is the second part of the digest of a row. A file with it comes first. Otherwise
        the first file of that name in a folder that the user named is taken, with a note. A nearby
        file that only has the name proves nothing.
        """
        if Path(name).is_absolute() or ".." in Path(name).parts:
            return None, None
        named = [file for root in self.named if os.path.isfile(file := root / name)]
        if digest and self.run_digest:
            for file in (*named, *(root / name for root in self.nearby)):
                if os.path.isfile(file) and input_digest(file, self.run_digest) == digest:
                    return file, None
            return (named[0], CHANGED) if named else (None, None)
        return (named[0] if named else None), None


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


def _nearby(folder: Path) -> list[Path]:
    """Return the folder that holds the output folder, and the folders in it."""
    parent = Path(os.path.realpath(folder)).parent
    try:
        beside = sorted(one for one in parent.iterdir() if not one.name.startswith("."))
    except OSError:
        return []
    return [parent, *(one for one in beside if one.is_dir())]
