"""Add up how far two networks agree: classes, who is right, and the maps of each method.

Memory grows by a digest for each image, and two numbers for each result.
"""

from __future__ import annotations

import heapq
from array import array
from collections import Counter
from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import numpy as np

from camcli.runs.manifest import Row
from camcli.runs.resume import SETTINGS, environment_digest
from camcli.snapshots.class_agreement import ClassAgreement
from camcli.snapshots.networks import Contrast
from camcli.snapshots.pairs import digest

EXPLAINED = {True: "same class", False: "other class", None: "unknown"}
"""The classes that the maps of two results explain."""
RUN_FIELDS = (
    *("model", "weights", "weights_hash", "layers", "fuse", "methods", "targets", "fit"),
    *("precision", "device"),
)
"""The fields of a run's record that are kept."""


class Agreement:
    """Counts and measures of the results of two networks. `runs` are the records of both runs.

    The `keep` results that disagree most are kept.
    """

    def __init__(self, runs: tuple[Row, Row] = ({}, {}), keep: int = 0) -> None:
        self.runs, self._keep = runs, keep
        self._most: list[tuple[tuple[float, ...], Contrast]] = []
        self._images: dict[str, set[bytes]] = {name: set() for name in ("both", "a", "b")}
        self._results, self._notes = Counter[str](), Counter[str]()
        self._classes = ClassAgreement()
        self._measures: dict[tuple[str, str], tuple[array[float], array[float]]] = {}
        self._counts = Counter[tuple[str, str]]()
        self._layers = self._files = 0
        self._same_environment = _same_environment(*runs)

    def add(self, one: Contrast) -> None:
        """Add a result."""
        image = digest((one.row["image"],))
        where = "both" if one.rows else "a" if one.a else "b"
        self._images[where].add(image)
        self._results[where] += 1
        self._layers += one.several and not one.rows
        if not one.rows:
            return
        self._add_most(one)
        self._add_maps(one)
        self._files += self._same_environment and _other_bytes(*one.rows)
        self._classes.add(image, one)

    @property
    def most(self) -> list[Contrast]:
        """The results in both folders that disagree most, the strongest disagreement first."""
        return [one for _, one in sorted(self._most, key=itemgetter(0), reverse=True)]

    def _add_most(self, one: Contrast) -> None:
        key = (*(-value for value in one.rank), -self._results["both"])  # each key is there once
        if len(self._most) < self._keep:
            heapq.heappush(self._most, (key, one))
        elif self._keep:
            heapq.heappushpop(self._most, (key, one))

    def _add_maps(self, one: Contrast) -> None:
        key = one.row["method"], EXPLAINED[one.same_explained]
        self._counts[key] += 1
        self._notes.update([one.note.partition(" (")[0]] if one.note else ())
        values = self._measures.setdefault(key, (array("d"), array("d")))
        for measures, value in zip(values, (one.correlation, one.shift), strict=True):
            measures.extend([] if value is None else [value])

    def record(self) -> dict[str, Any]:
        """Return everything as a JSON object."""
        runs = ({field: run.get(field) for field in RUN_FIELDS} for run in self.runs)
        only = {name: len(self._images[name] - self._images["both"]) for name in "ab"}
        return {
            "runs": dict(zip("ab", runs, strict=True)),
            "images": {"both": len(self._images["both"]), **only},
            "results": {name: self._results[name] for name in ("both", "a", "b")},
            "not_compared": dict(sorted(self._notes.items())),
            **self._classes.record(),
            "methods": [self._method(*key) for key in sorted(self._counts, key=_method_order)],
        }

    def _method(self, method: str, explained: str) -> dict[str, Any]:
        """Return the quartiles of a method's correlations, and the median shift."""
        correlations, shifts = self._measures[method, explained]
        quartiles = np.quantile(correlations, (0.25, 0.5, 0.75)) if correlations else [None] * 3
        low, middle, high = (None if q is None else round(float(q), 6) for q in quartiles)
        return {
            **{"method": method, "explained": explained},
            **{"results": self._counts[method, explained], "compared": len(correlations)},
            "correlation": {"median": middle, "low": low, "high": high},
            "shift": round(float(np.median(shifts)), 6) if shifts else None,
        }

    def warnings(self) -> Iterator[str]:
        """Yield a line for each reason why the numbers may mislead."""
        if _same_run(*self.runs):
            yield "both folders have the same weights and settings: there is nothing to compare"
        if self._files:
            yield f"results of files of the same name with other digests: {self._files}"
        if self._layers:
            yield (
                f"results of several layers are compared only where the layer has the same name, "
                f"and these are in one folder alone: {self._layers}"
            )
        yield from self._classes.warnings()


def _method_order(key: tuple[str, str]) -> tuple[str, int]:
    return key[0], [*EXPLAINED.values()].index(key[1])


def _same_run(a: Row, b: Row) -> bool:
    """Return whether two runs used the same weights in the same way, by their records."""
    fields = ("weights_hash", "preprocessing", "prompt", *SETTINGS)
    return bool(a.get("weights_hash")) and all(a.get(one) == b.get(one) for one in fields)


def _same_environment(a: Row, b: Row) -> bool:
    """Return whether the digests of both runs' inputs are the same for the same file."""
    try:
        return environment_digest(a) == environment_digest(b)
    except (KeyError, TypeError, AttributeError):  # a record that is missing or damaged
        return False


def _other_bytes(a: Row, b: Row) -> bool:
    digests = [(row.get("digest") or "").partition("-")[2] for row in (a, b)]
    return all(digests) and digests[0] != digests[1]
