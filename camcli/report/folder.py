"""What `camcli explain` left in a folder, taken for no more than it is: the files may be damaged,
edited, or from somebody else."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from camcli.errors import CamcliError
from camcli.images.find import Source
from camcli.images.geometry import Crop
from camcli.runs import resume
from camcli.runs.files import within
from camcli.runs.manifest import MANIFEST, RUN, Row
from camcli.runs.names import Wanted, name_of
from camcli.runs.outputs import OUTPUTS

STATUSES = ("error", "empty", "ok")
"""What may become of a result, the worst first."""
_NAMED = ("map", "overlay")
"""The files that a row names."""


@dataclass(frozen=True)
class Entry:
    """A row of the manifest. `files` are those of its outputs that are there, by what they are;
    `missing` are the names of those that it has and that are not."""

    image: str
    method: str
    target: str
    status: str
    layer: str | None = None
    error: str | None = None
    class_index: int | None = None
    class_name: str | None = None
    score: float | None = None
    probability: float | None = None
    map_min: float | None = None
    map_max: float | None = None
    map_shape: tuple[int, ...] = ()
    crop: Crop | None = None
    boxes: tuple[tuple[int, ...], ...] = ()
    digest: str = ""
    files: dict[str, Path] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Folder:
    """An output folder: its entries in the manifest's order, and how many lines are no rows."""

    path: Path
    entries: Sequence[Entry]
    run: Row
    unread: int = 0

    @cached_property
    def images(self) -> dict[str, list[Entry]]:
        """The entries by their image."""
        found: dict[str, list[Entry]] = {}
        for entry in self.entries:
            found.setdefault(entry.image, []).append(entry)
        return found


def read(folder: Path) -> Folder:
    """An output folder, also of a run that was killed or is not done yet.

    Of two rows for one result the later counts. Raises CamcliError where there is none at all, or
    where one names a file outside of the folder.
    """
    lines = [line for line in resume.lines(folder) if line.strip()]
    if not lines:
        raise CamcliError(
            f"'{folder}' has no {MANIFEST} with a row in it: expected a folder that camcli explain "
            f"wrote"
        )
    entries = [_entry(folder, row) for row in resume.parsed(lines) if _is_whole(row)]
    if not entries:
        raise CamcliError(f"'{folder / MANIFEST}': not one of its {len(lines)} lines is a row")
    last = {(one.image, one.method, one.target, one.layer): one for one in entries}
    return Folder(folder, [*last.values()], record(folder / RUN), len(lines) - len(entries))


def record(file: Path) -> Row:
    """A JSON object from a file; an empty one where there is none to read."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def number(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return value if known and abs(value) <= sys.float_info.max else None


def text(value: Any) -> str | None:
    """A text that is not empty, or None for anything else."""
    return value if isinstance(value, str) and value else None


def _file_name(value: Any) -> str | None:
    """A text that can be a file's name, or None for anything else."""
    try:
        encoded = os.fsencode(text(value) or "")
    except UnicodeEncodeError:
        return None
    return value if encoded and b"\0" not in encoded and Path(value).name else None


def _is_whole(row: Row) -> bool:
    texts = text(row["method"]), text(row["target"]), _file_name(row["image"])
    return row["status"] in STATUSES and all(texts)


def _entry(folder: Path, row: Row) -> Entry:
    files = {what: within(folder, name) for what, name in _names(row).items()}
    there = {what: file for what, file in files.items() if os.path.isfile(file)}
    gone = [what for what in _NAMED if row.get(what) and what in files and what not in there]
    boxes = [box for box in (row.get("box"), *_list(row.get("boxes"))) if len(_whole(box)) == 4]
    crop = _whole(row.get("crop"))
    return Entry(
        image=row["image"],
        method=row["method"],
        target=row["target"],
        status=row["status"],
        layer=text(row.get("layer")),
        error=text(row.get("error")),
        class_name=text(row.get("class_name")),
        score=number(row.get("score")),
        probability=number(row.get("probability")),
        map_min=number(row.get("map_min")),
        map_max=number(row.get("map_max")),
        class_index=next(iter(_whole([row.get("class_index")])), None),
        map_shape=_whole(row.get("map_shape")),
        crop=Crop(*crop) if len(crop) == 4 and crop[0] < crop[2] and crop[1] < crop[3] else None,
        boxes=tuple(_whole(box) for box in boxes),
        digest=text(row.get("digest")) or "",
        files=there,
        missing=tuple(str(files[what].relative_to(folder)) for what in gone),
    )


def _names(row: Row) -> dict[str, str]:
    """The files that a row may have, by what they are; it names the map and the overlay alone."""
    if row["status"] == "error":
        return {}
    named = {what: name for what in _NAMED if (name := _file_name(row.get(what)))}
    stems = [name.removesuffix(OUTPUTS[what].ending) for what, name in named.items()]
    if not stems:
        source, wanted = Source(Path(), Path(row["image"])), Wanted(row["method"], row["target"])
        stems = [name_of(source, wanted, "map").as_posix().removesuffix(OUTPUTS["map"].ending)]
    return named | {
        what: stems[0] + kind.ending for what, kind in OUTPUTS.items() if what not in named
    }


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _whole(value: Any) -> tuple[int, ...]:
    """A list of whole numbers from 0 up, or nothing."""
    known = [isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in _list(value)]
    return tuple(value) if known and all(known) else ()
