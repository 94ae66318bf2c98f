"""Snapshots: two output folders compared map by map, and new ones accepted. Needs NumPy alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from camcli.errors import CamcliError, one_line
from camcli.runs.files import within
from camcli.runs.manifest import MANIFEST
from camcli.runs.outputs import OUTPUTS

Row: TypeAlias = dict[str, Any]


Map: TypeAlias = NDArray[np.float64]
"""A raw map (h,w), or an image of gradients (3,H,W)."""


HOT = 0.02
"""Points this close to a map's top, as a share of its largest value, are as hot as the hottest."""


FLAT = 1e-5
"""A map whose values span less than this share of the largest has no pattern to correlate."""


@dataclass(frozen=True)
class Tolerance:
    """How far two maps may be apart and still be alike.

    Values by `atol + rtol x (the baseline's largest absolute value)`: not relative to each cell,
    since a cell near zero carries the rounding of its large neighbours. `max_shift` is in lengths
    of the map's longer side. The defaults let other processors, thread counts and batch sizes pass
    (a millionth is usual, a few thousandths with TF32) and little else.
    """

    atol: float = 1e-7
    rtol: float = 0.01
    min_correlation: float = 0.99
    max_shift: float = 0.1

    def __post_init__(self) -> None:
        for name in ("atol", "rtol", "max_shift"):
            if not getattr(self, name) >= 0:
                raise CamcliError(f"{name} {getattr(self, name)}: expected a number from 0 up")
        if not -1 <= self.min_correlation <= 1:
            raise CamcliError(f"min_correlation {self.min_correlation}: expected -1 to 1")


@dataclass(frozen=True)
class Measures:
    """How far a map is from its baseline.

    `difference` is the largest absolute one and `relative` the same over the baseline's largest
    absolute value, None if that is zero and the map is not. `correlation` is Pearson's, None
    between flat maps and 0 where only one is flat. `shift` is how far the hottest point moved, in
    lengths of the map's longer side, None where either map is flat.
    """

    difference: float
    relative: float | None
    correlation: float | None
    shift: float | None


@dataclass(frozen=True)
class Comparison:
    """One image, method and target in both folders; without `reasons` they are alike.

    `verdict` is `alike`, `differs`, `missing` (from the new folder) or `extra` (in it).
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
    def where(self) -> tuple[str, str, str]:
        """What both folders know it by, but for the layer."""
        return self.image, self.method, self.target


def compare(new: Path, baseline: Path, tolerance: Tolerance) -> list[Comparison]:
    """Every result of two output folders, in the baseline's order, then what only `new` has.

    Raises CamcliError where a folder is no output folder, or holds nothing to compare.
    """
    fresh, known = read(new), read(baseline)
    if not any(row.get("map") for row in known) and any(row["status"] != "error" for row in known):
        raise CamcliError(f"'{baseline}' has no maps to compare: make it with --save map")
    repeated = _repeated(fresh) | _repeated(known)
    found = {_key(row, repeated): row for row in fresh}
    stored = {_key(row, repeated): row for row in known}
    return [
        *(
            _compared(new, baseline, found[key], row, tolerance)
            if key in found
            else _alone(row, "missing", baseline=_map(baseline, row))
            for key, row in stored.items()
        ),
        *(
            _alone(row, "extra", new=_map(new, row))
            for key, row in found.items()
            if key not in stored
        ),
    ]


def measure(new: Map, baseline: Map, atol: float = 0) -> Measures:
    """Measures between two finite maps of one shape; what is within `atol` counts as flat."""
    difference = float(np.abs(new - baseline).max(initial=0))
    scale = float(np.abs(baseline).max(initial=0))
    flat = [_is_flat(values, atol) for values in (new, baseline)]
    return Measures(
        difference,
        difference / scale if scale else (None if difference else 0.0),
        None if all(flat) else 0.0 if any(flat) else _correlation(new, baseline),
        None if any(flat) else _shift(new, baseline),
    )


def reasons(found: Measures, scale: float, tolerance: Tolerance) -> Iterator[str]:
    """What of the measures is beyond tolerance, for a baseline of this largest absolute value."""
    if not found.difference <= tolerance.atol + tolerance.rtol * scale:
        yield "values"
    if found.correlation is not None and found.correlation < tolerance.min_correlation:
        yield "correlation"
    if found.shift is not None and found.shift > tolerance.max_shift:
        yield "hottest point"


def read(folder: Path) -> list[Row]:
    """The rows of an output folder's manifest. Raises CamcliError with one line."""
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
    rows = [_row(file, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise CamcliError(f"'{file}' is empty: nothing to compare")
    return rows


def _row(file: Path, number: int, line: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise CamcliError(f"'{file}' line {number}: not JSON ({one_line(error)})") from None
    wanted = ("image", "method", "target", "status")
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in wanted):
        raise CamcliError(f"'{file}' line {number}: expected a row with {', '.join(wanted)}")
    for kind in OUTPUTS.values():
        if row.get(kind.field) is not None:
            within(file.parent, row[kind.field])
    return row


def _repeated(rows: Sequence[Row]) -> set[Hashable]:
    counts = Counter(_name(row) for row in rows)
    return {key for key, count in counts.items() if count > 1}


def _name(row: Row) -> tuple[str, str, str]:
    return row["image"], row["method"], row["target"]


def _key(row: Row, repeated: set[Hashable]) -> Hashable:
    """What pairs rows: a layer only where a run has several, so that another one is compared."""
    return (*_name(row), row.get("layer"), row.get("map")) if _name(row) in repeated else _name(row)


def _map(folder: Path, row: Row) -> Path | None:
    return folder / row["map"] if row.get("map") else None


def _alone(
    row: Row, verdict: str, new: Path | None = None, baseline: Path | None = None
) -> Comparison:
    image, method, target = _name(row)
    layer = row.get("layer")
    return Comparison(image, method, target, layer, verdict, (verdict,), new=new, baseline=baseline)


def _compared(
    new: Path, baseline: Path, fresh: Row, known: Row, tolerance: Tolerance
) -> Comparison:
    """One result that both folders have."""
    maps = _map(new, fresh), _map(baseline, known)
    found: Measures | None = None
    changed = [*_changes(fresh, known)]
    if "error" not in (fresh["status"], known["status"]):
        try:
            values = [_load(file) for file in maps]
        except CamcliError as error:
            changed.append(str(error))
        else:
            more, found = _judged(values[0], values[1], tolerance)
            if more:
                changed += [*_remarks(fresh, known)]
            changed += more
    verdict = "differs" if changed else "alike"
    return Comparison(*_name(known), known.get("layer"), verdict, tuple(changed), found, *maps)


_CLASS = ("class_index", "class_name")


def _changes(fresh: Row, known: Row) -> Iterator[str]:
    """What rows tell without their maps. Of `ok` and `empty`, the maps know more."""
    failed = [row["status"] == "error" for row in (fresh, known)]
    if any(failed):
        if not all(failed):
            yield _change("status", fresh["status"], known["status"])
        return
    # Of a text there is no index.
    index, text = ([row.get(name) for row in (fresh, known)] for name in _CLASS)
    if index[0] != index[1] or (index == [None, None] and text[0] != text[1]):
        names = (row.get("class_name") or row.get("class_index") for row in (fresh, known))
        yield _change("class", *names)


def _remarks(fresh: Row, known: Row) -> Iterator[str]:
    """What alone is no difference, but explains one."""
    for what in ("status", "layer"):
        if fresh.get(what) != known.get(what):
            yield _change(what, fresh.get(what), known.get(what))


def _change(what: str, new: Any, was: Any) -> str:
    return f"{what} {was} -> {new}"


def _judged(new: Map, baseline: Map, tolerance: Tolerance) -> tuple[list[str], Measures | None]:
    if new.shape != baseline.shape:
        return [_change("shape", *("x".join(map(str, m.shape)) for m in (new, baseline)))], None
    finite = np.isfinite(baseline)
    if not np.array_equal(new[~finite], baseline[~finite], equal_nan=True) or not np.array_equal(
        finite, np.isfinite(new)
    ):
        counts = (f"{np.count_nonzero(~np.isfinite(m))} cells" for m in (new, baseline))
        return [_change("NaN or infinity", *counts)], None
    known = np.where(finite, baseline, 0)
    found = measure(np.where(finite, new, 0), known, tolerance.atol)
    return [*reasons(found, float(np.abs(known).max(initial=0)), tolerance)], found


def _load(file: Path | None) -> Map:
    """A raw map; nothing in the file is executed."""
    if file is None:
        raise CamcliError("no map saved: make both with --save map")
    try:
        values = np.load(file, allow_pickle=False)
        return np.asarray(values, np.float64)
    except (OSError, ValueError, EOFError, MemoryError, TypeError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise CamcliError(f"map {file} not readable ({reason})") from None


def _is_flat(values: Map, atol: float) -> bool:
    span = float(values.max(initial=-np.inf) - values.min(initial=np.inf))
    return not span > atol + FLAT * float(np.abs(values).max(initial=0))


def _correlation(new: Map, baseline: Map) -> float:
    # Scaled to 1 first, so that the squares of tiny gradients do not vanish.
    unit = [(values / np.abs(values).max()).ravel() for values in (new, baseline)]
    centred = [values - values.mean() for values in unit]
    product = float(np.dot(*centred))
    return product / float(np.linalg.norm(centred[0]) * np.linalg.norm(centred[1]))


def _shift(new: Map, baseline: Map) -> float:
    """From the new map's hottest point to the nearest of the baseline's, which may be several.

    Taking all points near the top as hottest keeps two equal peaks from swapping by rounding.
    """
    here, there = (np.abs(m).max(axis=0) if m.ndim == 3 else m for m in (new, baseline))
    place = np.unravel_index(int(here.argmax()), here.shape)
    hot = np.argwhere(there >= there.max() - HOT * np.abs(there).max())
    return float(np.linalg.norm(hot - np.array(place), axis=1).min() / max(here.shape))
