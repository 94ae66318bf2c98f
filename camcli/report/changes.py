"""Read the output of `camcli check --json`: how each result differs from its baseline."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from camcli.errors import CamcliError, one_line
from camcli.report.folder import SavedResult, number_or_none, text_or_none
from camcli.snapshots.measures import Measures
from camcli.snapshots.tables import VERDICTS

CHECK_FILE = "check.jsonl"
_MEASURES = tuple(field.name for field in fields(Measures))


@dataclass(frozen=True)
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


def find_changes(folder: Path, named: Path | None) -> list[Change]:
    """Read the file that was named, or `check.jsonl` in the output folder if it exists.

    Raises CamcliError.
    """
    file = named or folder / CHECK_FILE
    return read_changes(file) if named or file.is_file() else []


def read_changes(file: Path) -> list[Change]:
    """Read the rows that `camcli check --json` printed to a file. Raises CamcliError."""
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise CamcliError(
            f"'{file}': {error.strerror}; expected the output of camcli check --json"
        ) from None
    return [
        _parse_change(file, number, line) for number, line in enumerate(lines, 1) if line.strip()
    ]


def change_of(result: SavedResult, changes: Sequence[Change]) -> Change | None:
    """Return a result's change among those of its image.

    The layer is compared only if several changes have the same method and target.
    """
    found = [c for c in changes if (c.method, c.target) == (result.method, result.target)]
    same_layer = [change for change in found if change.layer == result.layer]
    return next(iter(same_layer if len(found) > 1 else found), None)


def _parse_change(file: Path, line: int, data: bytes) -> Change:
    try:
        row: dict[str, Any] = json.loads(data)
        measures = {name: number_or_none(row.get(name)) for name in _MEASURES}
        picture = Path(name) if (name := text_or_none(row.get("picture"))) else None
        change = Change(
            image=str(row["image"]),
            method=str(row["method"]),
            target=str(row["target"]),
            layer=text_or_none(row.get("layer")),
            verdict=str(row["verdict"]),
            reasons=tuple(map(str, row["reasons"])),
            measures={name: value for name, value in measures.items() if value is not None},
            picture=picture if picture and picture.is_file() else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CamcliError(
            f"'{file}' line {line}: not a row of camcli check --json "
            f"({type(error).__name__}: {one_line(error)})"
        ) from None
    if change.verdict not in VERDICTS:
        raise CamcliError(
            f"'{file}' line {line}: verdict '{change.verdict}', expected {', '.join(VERDICTS)}"
        )
    return change
