"""Read output folders and compare two of them result by result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from camcli.errors import CamcliError, one_line
from camcli.runs.files import path_inside
from camcli.runs.manifest import MANIFEST, Row, parse_row
from camcli.runs.outputs import named_files
from camcli.snapshots.measures import Measures, RawMap, Tolerance, exceeded, measure


@dataclass(frozen=True)
class Comparison:
    """One result in the new folder and in the baseline. It has `reasons` unless it is alike.

    `verdict` is `alike`, `differs`, `missing` (from the new folder) or `extra` (not in the
    baseline). `new` and `baseline` are the paths of the maps.
    """

    image: str
    method: str
    target: str
    layer: str | None
    verdict: str
    reasons: tuple[str, ...] = ()
    measures: Measures | None = None
    new: Path | None = None
    baseline: Path | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """The image, method and target."""
        return self.image, self.method, self.target


def compare(new: Path, baseline: Path, tolerance: Tolerance) -> list[Comparison]:
    """Compare every result of two output folders.

    Returns the baseline's results in their order, then those that only `new` has. Raises
    CamcliError if either is not an output folder, or if the baseline has no maps.
    """
    new_rows, baseline_rows = read_rows(new), read_rows(baseline)
    succeeded = [row for row in baseline_rows if row["status"] != "error"]
    if succeeded and not any(row.get("map") for row in baseline_rows):
        raise CamcliError(f"'{baseline}' has no maps to compare: make it with --save map")
    repeated = _repeated(new_rows) | _repeated(baseline_rows)
    found = {_pairing_key(row, repeated): row for row in new_rows}
    expected = {_pairing_key(row, repeated): row for row in baseline_rows}
    return [
        _compare_rows(new, baseline, found.get(key), expected.get(key), tolerance)
        for key in {**expected, **found}
    ]


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
    rows = [_checked_row(file, at, line) for at, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise CamcliError(f"'{file}' is empty: nothing to compare")
    return rows


def _checked_row(file: Path, number: int, line: str) -> Row:
    try:
        row = parse_row(line)
    except ValueError as error:
        raise CamcliError(f"'{file}' line {number}: {error}") from None
    for name in named_files(row).values():
        path_inside(file.parent, name)
    return row


def _result_key(row: Row) -> tuple[str, str, str]:
    return row["image"], row["method"], row["target"]


def _repeated(rows: Sequence[Row]) -> set[Hashable]:
    counts = Counter(_result_key(row) for row in rows)
    return {key for key, count in counts.items() if count > 1}


def _pairing_key(row: Row, repeated: set[Hashable]) -> Hashable:
    """Return the key by which rows are paired.

    It includes the layer only if a run has several for one image, method and target. Otherwise
    results at two different layers are compared.
    """
    key = _result_key(row)
    return (*key, row.get("layer"), row.get("map")) if key in repeated else key


def _compare_rows(
    new: Path, baseline: Path, new_row: Row | None, baseline_row: Row | None, tolerance: Tolerance
) -> Comparison:
    row = baseline_row or new_row
    assert row is not None
    paths = _map_path(new, new_row), _map_path(baseline, baseline_row)
    measures: Measures | None = None
    if new_row and baseline_row:
        reasons, measures = _changes(new_row, baseline_row, paths, tolerance)
        verdict = "differs" if reasons else "alike"
    else:
        verdict = "extra" if new_row else "missing"
        reasons = [verdict]
    return Comparison(
        *_result_key(row), row.get("layer"), verdict, tuple(reasons), measures, *paths
    )


def _changes(
    new: Row, baseline: Row, paths: Sequence[Path | None], tolerance: Tolerance
) -> tuple[list[str], Measures | None]:
    """Return how a result differs from its baseline, and the measures if the maps are comparable.

    `paths` are those of the new map and of the baseline's.
    """
    reasons = [*_row_changes(new, baseline)]
    if "error" in (new["status"], baseline["status"]):
        return reasons, None
    try:
        new_map, baseline_map = map(_load_map, paths)
    except CamcliError as error:
        return [*reasons, str(error)], None
    changes, measures = _map_changes(new_map, baseline_map, tolerance)
    return [*reasons, *(_context(new, baseline) if changes else ()), *changes], measures


def _row_changes(new: Row, baseline: Row) -> Iterator[str]:
    """Yield differences of status and class. A status of `ok` or `empty` depends on the map."""
    failed = [row["status"] == "error" for row in (new, baseline)]
    if any(failed):
        if not all(failed):
            yield _change("status", new["status"], baseline["status"])
        return
    index, name = (
        [row.get(field) for row in (new, baseline)] for field in ("class_index", "class_name")
    )
    # A text as target has a name and no index.
    if index[0] != index[1] or (index == [None, None] and name[0] != name[1]):
        yield _change("class", *(n or i for n, i in zip(name, index, strict=True)))


def _context(new: Row, baseline: Row) -> Iterator[str]:
    """Yield differences that may explain why a map changed, but are allowed on their own."""
    for name in ("status", "layer"):
        if new.get(name) != baseline.get(name):
            yield _change(name, new.get(name), baseline.get(name))


def _map_changes(
    new: RawMap, baseline: RawMap, tolerance: Tolerance
) -> tuple[list[str], Measures | None]:
    if new.shape != baseline.shape:
        return [_change("shape", *("x".join(map(str, m.shape)) for m in (new, baseline)))], None
    finite = np.isfinite(baseline)
    same_cells = np.array_equal(finite, np.isfinite(new))
    if not same_cells or not np.array_equal(new[~finite], baseline[~finite], equal_nan=True):
        counts = (f"{np.count_nonzero(~np.isfinite(m))} cells" for m in (new, baseline))
        return [_change("NaN or infinity", *counts)], None
    known = np.where(finite, baseline, 0)
    measures = measure(np.where(finite, new, 0), known, tolerance.atol)
    return [*exceeded(measures, float(np.abs(known).max(initial=0)), tolerance)], measures


def _change(name: str, new: Any, baseline: Any) -> str:
    return f"{name} {baseline} -> {new}"


def _map_path(folder: Path, row: Row | None) -> Path | None:
    return folder / row["map"] if row and row.get("map") else None


def _load_map(file: Path | None) -> RawMap:
    if file is None:
        raise CamcliError("no map saved: make both with --save map")
    try:
        values = np.load(file, allow_pickle=False)
        return np.asarray(values, np.float64)
    except (OSError, ValueError, EOFError, MemoryError, TypeError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise CamcliError(f"map {file} not readable ({reason})") from None
