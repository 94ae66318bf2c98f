"""Read the manifest rows and maps of an output folder. An invalid row or map is an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from camcli.errors import CamcliError, one_line
from camcli.runs.files import path_inside
from camcli.runs.manifest import MANIFEST, Row, parse_row
from camcli.runs.outputs import named_files
from camcli.snapshots.measures import RawMap


def read_rows(folder: Path) -> list[Row]:
    """Return the manifest rows of an output folder.

    Raises CamcliError if there are none, or if a row is invalid or names a file outside the folder.
    """
    file = folder / MANIFEST
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CamcliError(
            f"'{folder}' has no readable {MANIFEST} ({error.strerror}): expected a folder that "
            f"camcli explain wrote"
        ) from None
    except UnicodeDecodeError as error:
        raise CamcliError(f"'{file}': not UTF-8 ({one_line(error)})") from None
    rows = [_parsed(file, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise CamcliError(f"'{file}' is empty: nothing to compare")
    return rows


def map_path(folder: Path, row: Row) -> Path | None:
    """Return the path of a row's map, or None if it has none."""
    return folder / row["map"] if row.get("map") else None


def load_map(file: Path | None) -> RawMap:
    """Load a map without executing anything in the file. Raises CamcliError."""
    if file is None:
        raise CamcliError("no map saved: make both with --save map")
    try:
        values = np.load(file, allow_pickle=False)
        return np.asarray(values, np.float64)
    except (OSError, ValueError, EOFError, MemoryError, TypeError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise CamcliError(f"map {file} not readable ({reason})") from None


def _parsed(file: Path, number: int, line: str) -> Row:
    try:
        row = parse_row(line)
    except ValueError as error:
        raise CamcliError(f"'{file}' line {number}: {error}") from None
    for name in named_files(row).values():
        path_inside(file.parent, name)
    return row
