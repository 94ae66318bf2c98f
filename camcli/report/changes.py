"""What `camcli check --json` printed: how each result differs from its baseline."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from camcli.errors import CamcliError, one_line
from camcli.report.folder import Entry, number, text
from camcli.snapshots.tables import VERDICTS

CHECK_FILE = "check.jsonl"
_MEASURES = ("relative", "correlation", "shift")


@dataclass(frozen=True)
class Change:
    """One result and its baseline. `picture` shows both, where it was drawn and is still there."""

    image: str
    method: str
    target: str
    layer: str | None
    verdict: str
    reasons: tuple[str, ...]
    measures: Mapping[str, float]
    picture: Path | None = None


def find(folder: Path, given: Path | None) -> list[Change]:
    """The rows of a file that was named, or of the output folder's `check.jsonl` if there is one.

    Raises CamcliError.
    """
    file = given or folder / CHECK_FILE
    return read(file) if given or file.is_file() else []


def read(file: Path) -> list[Change]:
    """The rows that `camcli check --json` printed, from a file. Raises CamcliError."""
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise CamcliError(
            f"'{file}': {error.strerror}; expected what camcli check --json printed"
        ) from None
    return [_change(file, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def change_of(entry: Entry, among: Sequence[Change]) -> Change | None:
    """An entry's own of its image's; the layer counts where there are several."""
    found = [one for one in among if (one.method, one.target) == (entry.method, entry.target)]
    same = [one for one in found if one.layer == entry.layer]
    return next(iter(same if len(found) > 1 else found), None)


def _change(file: Path, line: int, data: bytes) -> Change:
    try:
        row: dict[str, Any] = json.loads(data)
        known = {n: value for n in _MEASURES if (value := number(row.get(n))) is not None}
        picture = Path(name) if (name := text(row.get("picture"))) else None
        change = Change(
            image=str(row["image"]),
            method=str(row["method"]),
            target=str(row["target"]),
            layer=text(row.get("layer")),
            verdict=str(row["verdict"]),
            reasons=tuple(map(str, row["reasons"])),
            measures=known,
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
