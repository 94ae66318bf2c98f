"""Compare two output folders result by result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from camcli.errors import CamcliError
from camcli.images.store import AnyPath
from camcli.runs.ahead import read_from
from camcli.runs.manifest import Row
from camcli.runs.maps import FloatMap
from camcli.snapshots.map_reader import MapReader
from camcli.snapshots.measures import Measures, RawMap, Tolerance, exceeded, measure
from camcli.snapshots.pairs import Pair, pairs, read_index, result_key

Maps: TypeAlias = tuple[FloatMap, FloatMap]
"""The new map of a result, and the baseline's."""


@dataclass(frozen=True)
class Comparison:
    """One result in the new folder and in the baseline. It has `reasons` unless it is alike.

    `verdict` is `alike`, `changed`, `missing` (from the new folder) or `extra` (not in the
    baseline). `new` and `baseline` are the paths of the maps. `several` says whether other results
    have the same image, method and target. `name` is the new map's in its folder. `maps` are both,
    None if they are alike or if one cannot be read.
    """

    image: str
    method: str
    target: str
    layer: str | None
    verdict: str
    reasons: tuple[str, ...] = ()
    measures: Measures | None = None
    new: AnyPath | None = None
    baseline: AnyPath | None = None
    several: bool = False
    name: str | None = None
    maps: Maps | None = field(default=None, compare=False, repr=False)

    @property
    def class_changed(self) -> bool:
        """Whether the explained class differs."""
        return is_class_change(self.reasons)


def is_class_change(reasons: Sequence[str]) -> bool:
    """Return whether one of the reasons is another class."""
    return any(reason.startswith("class ") for reason in reasons)


def compare(new: AnyPath, baseline: AnyPath, tolerance: Tolerance) -> list[Comparison]:
    """Compare every result of two output folders.

    Returns the baseline's results in their order, then those that only `new` has. Raises
    CamcliError if either is not an output folder, or if the baseline has no maps.
    """
    return [*comparisons(new, baseline, tolerance)]


def comparisons(new: AnyPath, baseline: AnyPath, tolerance: Tolerance) -> Iterator[Comparison]:
    """Read the manifests of two output folders, and then yield what `compare` returns."""
    rows, expected = read_index(new), read_index(baseline)
    if expected.has_results and not expected.has_maps:
        raise CamcliError(f"'{baseline}' has no maps to compare: make it with --save map")
    reader, folders = MapReader(), (new, baseline)
    compare_pair = partial(_compare_rows, folders, tolerance, reader)
    return reader.until_stopped(read_from(folders, compare_pair, pairs(rows, expected)))


def _compare_rows(
    folders: tuple[AnyPath, AnyPath], tolerance: Tolerance, reader: MapReader, pair: Pair
) -> Comparison:
    row = pair.baseline or pair.new
    assert row is not None
    paths = _map_path(folders[0], pair.new), _map_path(folders[1], pair.baseline)
    measures: Measures | None = None
    maps: Maps | None = None
    if pair.new and pair.baseline:
        load = partial(_load_map, reader)
        reasons, measures, maps = _changes(pair.new, pair.baseline, map(load, paths), tolerance)
        verdict = "changed" if reasons else "alike"
    else:
        verdict = "extra" if pair.new else "missing"
        reasons = [verdict]
    return Comparison(
        *(*result_key(row), row.get("layer"), verdict, tuple(reasons), measures, *paths),
        name=(pair.new or {}).get("map"),
        several=pair.several,
        maps=maps if reasons else None,
    )


def _changes(
    new: Row, baseline: Row, loaded: Iterator[FloatMap], tolerance: Tolerance
) -> tuple[list[str], Measures | None, Maps | None]:
    """Return how a result differs from its baseline, the measures of the maps, and the maps.

    There are no measures if the maps are not comparable. `loaded` gives the new map and the
    baseline's.
    """
    reasons = [*_row_changes(new, baseline)]
    if "error" in (new["status"], baseline["status"]):
        return reasons, None, None
    try:
        maps = next(loaded), next(loaded)
    except CamcliError as error:
        return [*reasons, str(error)], None, None
    new_map, baseline_map = (values.astype(np.float64) for values in maps)
    changes, measures = _map_changes(new_map, baseline_map, tolerance)
    return [*reasons, *(_context(new, baseline) if changes else ()), *changes], measures, maps


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
    for name in ("status", "layer", "crop"):
        if new.get(name) != baseline.get(name):
            yield _change(name, new.get(name), baseline.get(name))


def _map_changes(
    new: RawMap, baseline: RawMap, tolerance: Tolerance
) -> tuple[list[str], Measures | None]:
    if new.shape != baseline.shape:
        return [_change("shape", *("x".join(map(str, m.shape)) for m in (new, baseline)))], None
    finite, finite_new = np.isfinite(baseline), np.isfinite(new)
    if not (finite.all() and finite_new.all()):
        same_cells = np.array_equal(finite, finite_new)
        if not same_cells or not np.array_equal(new[~finite], baseline[~finite], equal_nan=True):
            counts = (f"{np.count_nonzero(~cells)} cells" for cells in (finite_new, finite))
            return [_change("NaN or infinity", *counts)], None
        new, baseline = (np.where(finite, values, 0) for values in (new, baseline))
    measures = measure(new, baseline, tolerance.atol)
    return [*exceeded(measures, float(np.abs(baseline).max(initial=0)), tolerance)], measures


def _change(name: str, new: Any, baseline: Any) -> str:
    return f"{name} {baseline} -> {new}"


def _map_path(folder: AnyPath, row: Row | None) -> AnyPath | None:
    return folder / row["map"] if row and row.get("map") else None


def _load_map(reader: MapReader, file: AnyPath | None) -> FloatMap:
    if file is None:
        raise CamcliError("no map saved: make both with --save map")
    try:
        return reader.read(file)
    except CamcliError as error:
        raise CamcliError(f"map {file} not readable ({error})") from None
