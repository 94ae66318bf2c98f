"""Read the output of `camcli check --json`: how each result differs from its baseline."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import median

from camcli.errors import CamcliError
from camcli.images.regular import open_regular
from camcli.images.store import AnyPath, RemotePath, is_remote, parse_path
from camcli.images.tars import is_file
from camcli.report.folder import OutputFolder, SavedResult
from camcli.runs.records import limited_lines
from camcli.schema import FILE_NAME, NUMBER, TEXT, Record, Table, choice, list_of
from camcli.snapshots.compare import is_class_change
from camcli.snapshots.measures import Measures
from camcli.snapshots.tables import VERDICTS

CHECK_FILE = "check.jsonl"
_RENAMED = {"differs": "changed"}
"""Verdicts of older files, and their present names."""
MISSING = 1000
"""The most missing results that a page lists."""
_MEASURES = tuple(one.name for one in fields(Measures))
CHANGE_ROW = Record(
    "a row with image, method, target, verdict and reasons",
    required={
        **dict.fromkeys(("image", "method", "target"), TEXT),
        "verdict": choice((*VERDICTS, *_RENAMED)),
        "reasons": list_of(TEXT),
    },
    optional={
        "layer": TEXT,
        **dict.fromkeys(_MEASURES, NUMBER),
        **dict.fromkeys(("new", "baseline", "picture"), FILE_NAME),
        "tolerance": Table("an object of tolerances", values=NUMBER),
    },
)
"""A row of `camcli check --json`."""


@dataclass(frozen=True, slots=True)
class Change:
    """The comparison of one result with its baseline.

    `picture` shows both maps. It is None if it was not drawn or no longer exists. `baseline` is the
    map of a changed result that can be drawn in the same place, if it exists. `tolerance` is empty
    in older files.
    """

    image: str
    method: str
    target: str
    layer: str | None
    verdict: str
    reasons: tuple[str, ...]
    measures: Mapping[str, float]
    picture: AnyPath | None = None
    baseline: AnyPath | None = None
    tolerance: Mapping[str, float] = field(default_factory=dict)

    @property
    def class_changed(self) -> bool:
        """Whether the explained class differs."""
        return is_class_change(self.reasons)


@dataclass
class MethodChanges:
    """The changes of one method: their counts by verdict, and the correlations of all its maps.

    `classes` counts the changes of the class.
    """

    counts: Counter[str] = field(default_factory=Counter)
    classes: int = 0
    correlations: array[float] = field(default_factory=lambda: array("d"))

    def add(self, change: Change) -> None:
        """Add a comparison of the method."""
        self.counts[change.verdict] += 1
        self.classes += change.class_changed
        if "correlation" in change.measures:
            self.correlations.append(change.measures["correlation"])

    @property
    def correlation(self) -> float | None:
        """The median correlation, if there is one."""
        return median(self.correlations) if self.correlations else None


@dataclass(frozen=True)
class Changes:
    """A check: its changes by image, for the images of a page, and those of each method in numbers.

    `missing` are the first MISSING results that only the baseline has. `tolerances` are those that
    the comparisons were made with, usually one.
    """

    by_image: Mapping[str, Sequence[Change]] = field(default_factory=dict)
    methods: Mapping[str, MethodChanges] = field(default_factory=dict)
    missing: Sequence[str] = ()
    tolerances: Sequence[Mapping[str, float]] = ()

    @property
    def counts(self) -> Counter[str]:
        """The counts of all verdicts."""
        return sum((one.counts for one in self.methods.values()), Counter[str]())


def find_changes(folder: OutputFolder, named: AnyPath | None) -> Changes:
    """Read the file that was named, or `check.jsonl` in the output folder if it exists.

    Changes of images that the output folder does not show are only counted. Raises CamcliError.
    """
    if named is None and not folder.exists(CHECK_FILE):
        return Changes()
    return read_changes(named or folder.path / CHECK_FILE, folder.images, folder.path)


def read_changes(file: AnyPath, images: Collection[str], folder: AnyPath = Path()) -> Changes:
    """Read the rows that `camcli check --json` printed to a file. Raises CamcliError.

    Files that they name on a store are those of the bucket of `folder`.
    """
    by_image: dict[str, list[Change]] = {}
    methods, missing = dict[str, MethodChanges](), list[str]()
    tolerances: list[Mapping[str, float]] = []
    for change in _read_rows(file, folder):
        methods.setdefault(change.method, MethodChanges()).add(change)
        if change.image in images:
            by_image.setdefault(change.image, []).append(change)
        if change.verdict == "missing" and len(missing) < MISSING:
            missing.append(f"{change.image}  {change.method}  {change.target}")
        if change.tolerance and change.tolerance not in tolerances[-1:]:
            tolerances.append(change.tolerance)
    return Changes(by_image, methods, missing, tolerances)


def change_of(result: SavedResult, changes: Sequence[Change]) -> Change | None:
    """Return a result's change among those of its image.

    The layer is compared only if several changes have the same method and target.
    """
    found = [c for c in changes if (c.method, c.target) == (result.method, result.target)]
    same_layer = [change for change in found if change.layer == result.layer]
    return next(iter(same_layer if len(found) > 1 else found), None)


def _read_rows(file: AnyPath, folder: AnyPath) -> Iterator[Change]:
    try:
        with open_regular(file) as stream:
            for number, line in enumerate(limited_lines(stream), 1):
                if not line.isspace():
                    yield _parse_change(f"'{file}' line {number}", line, folder)
    except OSError as error:
        raise CamcliError(
            f"'{file}': {error.strerror}; expected the output of camcli check --json"
        ) from None


def _parse_change(where: str, line: bytes, folder: AnyPath) -> Change:
    try:
        row = CHANGE_ROW.parse(line)
    except ValueError as error:
        raise CamcliError(f"{where}: not a row of camcli check --json ({error})") from None
    verdict, reasons = _RENAMED.get(row["verdict"], row["verdict"]), tuple(row["reasons"])
    moved = any(reason.startswith("crop ") for reason in reasons)
    return Change(
        **{name: row[name] for name in ("image", "method", "target")},
        layer=row.get("layer"),
        verdict=verdict,
        reasons=reasons,
        measures={name: row[name] for name in _MEASURES if row.get(name) is not None},
        picture=_existing(row.get("picture"), folder),
        baseline=_existing(row.get("baseline"), folder)
        if verdict == "changed" and not moved
        else None,
        tolerance=row.get("tolerance") or {},
    )


def _existing(name: str | None, folder: AnyPath) -> AnyPath | None:
    """Return the file of a name, if it exists. One on a store is not looked for before it is read.

    The file may name any store, but only the bucket of the folder is read, as the user's URL says.
    """
    if not name or not is_remote(name):
        return Path(name) if name and is_file(Path(name)) else None
    place = parse_path(name)
    if not (isinstance(place, RemotePath) and isinstance(folder, RemotePath)):
        return None
    return RemotePath(folder.root, place.key) if place.bucket == folder.bucket else None
