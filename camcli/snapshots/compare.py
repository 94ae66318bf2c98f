"""Compare two output folders result by result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from camcli.errors import CamcliError
from camcli.runs.manifest import Row
from camcli.snapshots.folder import load_map, map_path, read_rows
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
        *(
            _compare_pair(new, baseline, found[key], row, tolerance)
            if key in found
            else _unpaired(row, "missing", baseline=map_path(baseline, row))
            for key, row in expected.items()
        ),
        *(
            _unpaired(row, "extra", new=map_path(new, row))
            for key, row in found.items()
            if key not in expected
        ),
    ]


def _key(row: Row) -> tuple[str, str, str]:
    return row["image"], row["method"], row["target"]


def _repeated(rows: Sequence[Row]) -> set[Hashable]:
    counts = Counter(_key(row) for row in rows)
    return {key for key, count in counts.items() if count > 1}


def _pairing_key(row: Row, repeated: set[Hashable]) -> Hashable:
    """Return the key by which rows are paired.

    It includes the layer only if a run has several for one image, method and target. Otherwise
    results at two different layers are compared.
    """
    key = _key(row)
    return (*key, row.get("layer"), row.get("map")) if key in repeated else key


def _unpaired(
    row: Row, verdict: str, new: Path | None = None, baseline: Path | None = None
) -> Comparison:
    layer = row.get("layer")
    return Comparison(*_key(row), layer, verdict, (verdict,), new=new, baseline=baseline)


def _compare_pair(
    new: Path, baseline: Path, new_row: Row, baseline_row: Row, tolerance: Tolerance
) -> Comparison:
    """Compare a result that both folders have."""
    paths = map_path(new, new_row), map_path(baseline, baseline_row)
    measures: Measures | None = None
    reasons = [*_row_changes(new_row, baseline_row)]
    if "error" not in (new_row["status"], baseline_row["status"]):
        try:
            maps = [load_map(path) for path in paths]
        except CamcliError as error:
            reasons.append(str(error))
        else:
            changes, measures = _map_changes(maps[0], maps[1], tolerance)
            reasons += [*_context(new_row, baseline_row), *changes] if changes else []
    verdict = "differs" if reasons else "alike"
    layer = baseline_row.get("layer")
    return Comparison(*_key(baseline_row), layer, verdict, tuple(reasons), measures, *paths)


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
    """Return how a map differs from its baseline, and the measures if the maps are comparable."""
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
