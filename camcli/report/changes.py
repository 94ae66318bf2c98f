"""Read the output of `camcli check --json`: how each result differs from its baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from camcli.errors import CamcliError
from camcli.images.regular import open_regular
from camcli.report.folder import SavedResult
from camcli.runs.records import limited_lines
from camcli.schema import FILE_NAME, NUMBER, TEXT, Record, choice, list_of
from camcli.snapshots.measures import Measures
from camcli.snapshots.tables import VERDICTS

CHECK_FILE = "check.jsonl"
MISSING = 1000
"""The most missing results that a page lists."""
_MEASURES = tuple(one.name for one in fields(Measures))
CHANGE_ROW = Record(
    "a row with image, method, target, verdict and reasons",
    required={
        **dict.fromkeys(("image", "method", "target"), TEXT),
        "verdict": choice(VERDICTS),
        "reasons": list_of(TEXT),
    },
    optional={
        "layer": TEXT,
        **dict.fromkeys(_MEASURES, NUMBER),
        **dict.fromkeys(("new", "baseline", "picture"), FILE_NAME),
    },
)
"""A row of `camcli check --json`."""


@dataclass(frozen=True, slots=True)
class Change:
    """The comparison of one result with its baseline.

    `picture` shows both maps. It is None if it was not drawn or no longer exists.
    """

    image: str
    method: str
    target: str
    layer: str | None
    verdict: str
    reasons: tuple[str, ...]
    measures: Mapping[str, float]
    picture: Path | None = None


@dataclass(frozen=True)
class Changes:
    """A check: its changes by image, for the images of a page, and the counts of all verdicts.

    `missing` are the first MISSING results that only the baseline has.
    """

    by_image: Mapping[str, Sequence[Change]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    missing: Sequence[str] = ()


def find_changes(folder: Path, named: Path | None, images: Collection[str]) -> Changes:
    """Read the file that was named, or `check.jsonl` in the output folder if it exists.

    Changes of other images than `images` are only counted. Raises CamcliError.
    """
    file = named or folder / CHECK_FILE
    return read_changes(file, images) if named or file.is_file() else Changes()


def read_changes(file: Path, images: Collection[str]) -> Changes:
    """Read the rows that `camcli check --json` printed to a file. Raises CamcliError."""
    by_image: dict[str, list[Change]] = {}
    counts, missing = Counter[str](), list[str]()
    for change in _read_rows(file):
        counts[change.verdict] += 1
        if change.image in images:
            by_image.setdefault(change.image, []).append(change)
        if change.verdict == "missing" and len(missing) < MISSING:
            missing.append(f"{change.image}  {change.method}  {change.target}")
    return Changes(by_image, counts, missing)


def change_of(result: SavedResult, changes: Sequence[Change]) -> Change | None:
    """Return a result's change among those of its image.

    The layer is compared only if several changes have the same method and target.
    """
    found = [c for c in changes if (c.method, c.target) == (result.method, result.target)]
    same_layer = [change for change in found if change.layer == result.layer]
    return next(iter(same_layer if len(found) > 1 else found), None)


def _read_rows(file: Path) -> Iterator[Change]:
    try:
        with open_regular(file) as stream:
            for number, line in enumerate(limited_lines(stream), 1):
                if not line.isspace():
                    yield _parse_change(f"'{file}' line {number}", line)
    except OSError as error:
        raise CamcliError(
            f"'{file}': {error.strerror}; expected the output of camcli check --json"
        ) from None


def _parse_change(where: str, line: bytes) -> Change:
    try:
        row = CHANGE_ROW.parse(line)
    except ValueError as error:
        raise CamcliError(f"{where}: not a row of camcli check --json ({error})") from None
    picture = Path(name) if (name := row.get("picture")) else None
    return Change(
        **{name: row[name] for name in ("image", "method", "target", "verdict")},
        layer=row.get("layer"),
        reasons=tuple(row["reasons"]),
        measures={name: row[name] for name in _MEASURES if row.get(name) is not None},
        picture=picture if picture and picture.is_file() else None,
    )
