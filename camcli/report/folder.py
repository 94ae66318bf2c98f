"""Read an output folder of `camcli explain`, of any length.

Its records may be damaged, edited, or written by another program: `runs.records` checks them.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TypeAlias

from camcli.errors import CamcliError
from camcli.images.geometry import Crop
from camcli.images.store import AnyPath, RemotePath
from camcli.images.tars import is_file
from camcli.methods.registry import METHODS
from camcli.runs import resume
from camcli.runs.files import path_inside
from camcli.runs.grids import crop_of
from camcli.runs.manifest import MANIFEST, Row, parse_row, read_run
from camcli.runs.outputs import OUTPUTS
from camcli.snapshots.pairs import digest, result_key
from camcli.speed import cached_property

Exists: TypeAlias = Callable[[str], bool]
"""Returns whether an output folder has a file of this name."""


@dataclass(frozen=True, slots=True)
class SavedResult:
    """A manifest row. An empty text is None.

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
    true_name: str | None = None
    correct: bool | None = None
    map_min: float | None = None
    map_max: float | None = None
    top: float | None = None
    map_shape: tuple[int, ...] = ()
    crop: Crop | None = None
    boxes: tuple[tuple[int, ...], ...] = ()
    digest: str = ""
    files: dict[str, AnyPath] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def signed(self) -> bool:
        """Whether the map has two signs, by its method or else by its values."""
        method = METHODS.get(self.method)
        return method.signed if method else (self.map_min or 0) < 0

    @property
    def picture(self) -> str | None:
        """The output kind of the best picture that has the original's size, if one exists."""
        pictures = (name for name, kind in OUTPUTS.items() if kind.picture and kind.full_size)
        return next((name for name in pictures if name in self.files), None)


@dataclass(frozen=True)
class Limit:
    """The most images and results that a page shows."""

    images: int = sys.maxsize
    results: int = sys.maxsize


@dataclass(frozen=True)
class OutputFolder:
    """An output folder: its first results in manifest order, and its run record.

    `unread` counts the lines of the manifest that are no rows, and `hidden_images` the images
    beyond the limit. `hidden` are the statuses of the results beyond it. `run_error` says what is
    wrong with run.json. `exists` says whether the folder has a file.
    """

    path: AnyPath
    results: Sequence[SavedResult]
    run: Row
    unread: int = 0
    hidden: Counter[str] = field(default_factory=Counter)
    hidden_images: int = 0
    run_error: str | None = None
    exists: Exists = lambda name: False

    @cached_property
    def images(self) -> dict[str, list[SavedResult]]:
        """The results by image name."""
        found: dict[str, list[SavedResult]] = {}
        for result in self.results:
            found.setdefault(result.image, []).append(result)
        return found

    @property
    def counts(self) -> Counter[str]:
        """The number of results with each status."""
        return Counter(result.status for result in self.results) + self.hidden


def read_output_folder(folder: AnyPath, limit: Limit = Limit()) -> OutputFolder:
    """Read an output folder, also one of a run that was killed or is still running.

    If two rows describe the same result, the later one is kept. Raises CamcliError if the folder
    has no manifest row, or if a row names a file outside of the folder.
    """
    found, lines, unread = _Results(folder, limit), 0, 0
    for line in resume.lines(folder):
        lines += not line.isspace()
        try:
            found.add(parse_row(line))
        except ValueError:
            unread += not line.isspace()
    if not lines:
        raise CamcliError(
            f"'{folder}' has no {MANIFEST} with a row in it: expected a folder that camcli explain "
            f"wrote"
        )
    if lines == unread:
        raise CamcliError(f"'{folder / MANIFEST}': none of its {lines} lines is a row")
    run, run_error = read_run(folder)
    return OutputFolder(
        folder,
        results=[*found.shown.values()],
        run=run,
        unread=unread,
        hidden=Counter(found.hidden.values()),
        hidden_images=len(found.hidden_images),
        run_error=run_error,
        exists=found.exists,
    )


class _Results:
    """Results up to a limit, and the statuses of those beyond it by the digests of their rows."""

    def __init__(self, folder: AnyPath, limit: Limit) -> None:
        self.shown: dict[tuple[str | None, ...], SavedResult] = {}
        self.hidden: dict[bytes, str] = {}
        self.hidden_images: set[bytes] = set()
        self._folder, self._limit, self._images = folder, limit, set[str]()

    def add(self, row: Row) -> None:
        """Add a row, in place of an earlier row of the same result."""
        key, image = (*result_key(row), row.get("layer")), row["image"]
        is_new = key not in self.shown
        known = image in self._images
        full = is_new and len(self.shown) >= self._limit.results
        if full or not (known or len(self._images) < self._limit.images):
            self.hidden[digest(key)] = row["status"]
            if not known:
                self.hidden_images.add(digest((image,)))
        else:
            self._images.add(image)
            self.shown[key] = saved_result(self._folder, row, self.exists)

    @cached_property
    def exists(self) -> Exists:
        """Whether the folder has a file of a name."""
        return files_in(self._folder)  # not before there is a row: a typing error lists no bucket


def files_in(folder: AnyPath) -> Exists:
    """Return whether a folder has a file of a name. One on a store is listed once.

    Raises CamcliError.
    """
    if not isinstance(folder, RemotePath):
        return lambda name: is_file(folder / name)
    try:
        return resume.exists_in(folder)
    except OSError as error:
        raise CamcliError(f"cannot list '{folder}': {error.strerror}") from None


def saved_result(folder: AnyPath, row: Row, exists: Exists) -> SavedResult:
    """Return the result that a row describes. Raises CamcliError for a file outside the folder."""
    named = {kind: file for kind, one in OUTPUTS.items() if (file := row.get(one.field))}
    places = {kind: path_inside(folder, file) for kind, file in named.items()}
    files = {kind: file for kind, file in places.items() if exists(named[kind])}
    boxes = [row.get("box") or (), *(row.get("boxes") or ())]
    return SavedResult(
        **{name: value for name in _COPIED if (value := row.get(name)) not in (None, "")},
        map_shape=tuple(row.get("map_shape") or ()),
        crop=crop_of(row),
        boxes=tuple(tuple(box) for box in boxes if box),
        files=files,
        missing=tuple(str(PurePath(named[kind])) for kind in named if kind not in files),
    )


_COPIED = (
    *("image", "method", "target", "status", "layer", "error", "class_index", "class_name"),
    *("score", "probability", "unsure", "true_name", "correct", "map_min", "map_max", "top"),
    "digest",
)
"""The fields of a row that a SavedResult has, too."""
