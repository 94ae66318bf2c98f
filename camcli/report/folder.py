"""Read an output folder of `camcli explain`.

The manifest may be damaged, edited, or written by another program, so every value is checked.
"""

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
from camcli.images.geometry import Centres, Crop, Placement
from camcli.runs import resume
from camcli.runs.files import path_inside
from camcli.runs.manifest import MANIFEST, RUN, Row
from camcli.runs.outputs import OUTPUTS

STATUSES = ("error", "empty", "ok")
"""The statuses of a result, the worst first."""


@dataclass(frozen=True)
class SavedResult:
    """A manifest row with checked values.

    `files` maps output kinds to the files that exist. `missing` holds the names of the files that
    the row names and that do not exist.
    """

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
    unsure: bool = False
    map_min: float | None = None
    map_max: float | None = None
    map_shape: tuple[int, ...] = ()
    crop: Crop | None = None
    boxes: tuple[tuple[int, ...], ...] = ()
    digest: str = ""
    files: dict[str, Path] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def picture(self) -> str | None:
        """The output kind of the best picture that has the original's size, if one exists."""
        pictures = (name for name, kind in OUTPUTS.items() if kind.picture and kind.full_size)
        return next((name for name in pictures if name in self.files), None)


@dataclass(frozen=True)
class OutputFolder:
    """An output folder: its results in manifest order, its run record, and its unread lines."""

    path: Path
    results: Sequence[SavedResult]
    run: Row
    unread: int = 0

    @cached_property
    def images(self) -> dict[str, list[SavedResult]]:
        """The results by image name."""
        found: dict[str, list[SavedResult]] = {}
        for result in self.results:
            found.setdefault(result.image, []).append(result)
        return found


def read_output_folder(folder: Path) -> OutputFolder:
    """Read an output folder, also one of a run that was killed or is still running.

    If two rows describe the same result, the later one is kept. Raises CamcliError if the folder
    has no manifest row, or if a row names a file outside of the folder.
    """
    lines = [line for line in resume.lines(folder) if line.strip()]
    if not lines:
        raise CamcliError(
            f"'{folder}' has no {MANIFEST} with a row in it: expected a folder that camcli explain "
            f"wrote"
        )
    results = [_result(folder, row) for row in resume.parsed(lines) if _is_complete(row)]
    if not results:
        raise CamcliError(f"'{folder / MANIFEST}': none of its {len(lines)} lines is a row")
    last = {(one.image, one.method, one.target, one.layer): one for one in results}
    return OutputFolder(folder, [*last.values()], _read_run(folder), len(lines) - len(results))


def _read_run(folder: Path) -> Row:
    try:
        found = json.loads((folder / RUN).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_complete(row: Row) -> bool:
    names = (text_or_none(row["method"]), text_or_none(row["target"]))
    return row["status"] in STATUSES and all((*names, file_name_or_none(row["image"])))


def _result(folder: Path, row: Row) -> SavedResult:
    names = {name: file_name_or_none(row.get(kind.field)) for name, kind in OUTPUTS.items()}
    named = {kind: path_inside(folder, name) for kind, name in names.items() if name}
    files = {kind: file for kind, file in named.items() if os.path.isfile(file)}
    boxes = [indices_or_empty(box) for box in (row.get("box"), *list_or_empty(row.get("boxes")))]
    return SavedResult(
        image=row["image"],
        method=row["method"],
        target=row["target"],
        status=row["status"],
        layer=text_or_none(row.get("layer")),
        error=text_or_none(row.get("error")),
        class_name=text_or_none(row.get("class_name")),
        score=number_or_none(row.get("score")),
        probability=number_or_none(row.get("probability")),
        unsure=row.get("unsure") is True,
        map_min=number_or_none(row.get("map_min")),
        map_max=number_or_none(row.get("map_max")),
        class_index=next(iter(indices_or_empty([row.get("class_index")])), None),
        map_shape=indices_or_empty(row.get("map_shape")),
        crop=_crop(row),
        boxes=tuple(box for box in boxes if len(box) == 4),
        digest=text_or_none(row.get("digest")) or "",
        files=files,
        missing=tuple(
            str(one.relative_to(folder)) for kind, one in named.items() if kind not in files
        ),
    )


def _crop(row: Row) -> Crop | None:
    """Return the crop of a row, with the centres of the map's cells if the row has them."""
    corners = indices_or_empty(row.get("crop"))
    if len(corners) != 4 or corners[0] >= corners[2] or corners[1] >= corners[3]:
        return None
    cells = [number_or_none(number) for number in list_or_empty(row.get("cells"))]
    numbers = [number for number in cells if number is not None]
    if len(numbers) != 4 or len(cells) != 4 or min(numbers[2:]) <= 0:
        return Crop(*corners)
    return Placement(*corners, cells=Centres(*numbers))


def number_or_none(value: Any) -> float | None:
    """Return a finite number, or None for any other value."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and abs(value) <= sys.float_info.max else None


def text_or_none(value: Any) -> str | None:
    """Return a non-empty string, or None for any other value."""
    return value if isinstance(value, str) and value else None


def file_name_or_none(value: Any) -> str | None:
    """Return a string that can be a file name, or None for any other value."""
    try:
        encoded = os.fsencode(text_or_none(value) or "")
    except UnicodeEncodeError:
        return None
    return value if encoded and b"\0" not in encoded and Path(value).name else None


def list_or_empty(value: Any) -> list[Any]:
    """Return a list, or an empty list for any other value."""
    return value if isinstance(value, list) else []


def indices_or_empty(value: Any) -> tuple[int, ...]:
    """Return a list of non-negative integers as a tuple, or () for any other value."""
    found = list_or_empty(value)
    valid = (isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in found)
    return tuple(found) if all(valid) else ()
