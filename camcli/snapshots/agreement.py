"""Add up how far two networks agree: classes, who is right, and the maps of each method.

Memory grows by a digest for each image, and two numbers for each result.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections import Counter
from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import numpy as np

from camcli.runs.manifest import Row
from camcli.runs.resume import SETTINGS, environment_digest
from camcli.snapshots.networks import Contrast
from camcli.snapshots.pairs import digest

RIGHT = ("both", "a", "b", "neither")
EXPLAINED = {True: "same class", False: "other class", None: "unknown"}
"""The classes that the maps of two results explain."""
RUN_FIELDS = (
    *("model", "weights", "weights_hash", "layers", "fuse", "methods", "targets", "fit"),
    *("precision", "device"),
)
"""The fields of a run's record that are kept."""
_NAMES = 10_000
"""The most class names of a folder that are compared with the other folder's."""
_OVERLAP = 0.1
"""The share of class names in both folders below which a warning is due."""


class Agreement:
    """Counts and measures of the results of two networks. `runs` are the records of both runs.

    The `keep` results that disagree most are kept.
    """

    def __init__(self, runs: tuple[Row, Row] = ({}, {}), keep: int = 0) -> None:
        self.runs, self._keep = runs, keep
        self._most: list[tuple[tuple[float, ...], Contrast]] = []
        self._images: dict[str, set[bytes]] = {name: set() for name in ("both", "a", "b")}
        self._results, self._notes = Counter[str](), Counter[str]()
        self._judged: set[bytes] = set()
        self._classes, self._right = Counter[bool](), Counter[str]()
        self._correct = Counter[tuple[str, bool]]()
        self._measures: dict[tuple[str, str], tuple[array[float], array[float]]] = {}
        self._counts = Counter[tuple[str, str]]()
        self._names: tuple[set[str], set[str]] = set(), set()
        self._named, self._layers, self._files, self._truths = Counter[str](), 0, 0, 0
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
        if one.same_class is not None and image not in self._judged:
            self._judged.add(image)
            self._add_classes(one, *one.rows)

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

    def _add_classes(self, one: Contrast, *rows: Row) -> None:
        self._classes[bool(one.same_class)] += 1
        self._right.update([one.right] if one.right else ())
        for name, row, names, label in zip("ab", rows, self._names, one.predicted, strict=True):
            if row.get("correct") is not None:
                self._correct[name, row["correct"]] += 1
            if label and label.name is not None:
                self._named[name] += 1
                names.update([label.name] if len(names) < _NAMES else ())
        truths = {row.get("true_name") for row in rows} - {None}
        self._truths += len(truths) > 1

    def record(self) -> dict[str, Any]:
        """Return everything as a JSON object."""
        runs = ({field: run.get(field) for field in RUN_FIELDS} for run in self.runs)
        only = {name: len(self._images[name] - self._images["both"]) for name in "ab"}
        return {
            "runs": dict(zip("ab", runs, strict=True)),
            "images": {"both": len(self._images["both"]), **only},
            "results": {name: self._results[name] for name in ("both", "a", "b")},
            "not_compared": dict(sorted(self._notes.items())),
            "classes": {"same": self._classes[True], "other": self._classes[False]},
            "correct": {name: self._accuracy(name) for name in "ab"},
            "right": self._both_right(),
            "methods": [self._method(*key) for key in sorted(self._counts, key=_method_order)],
        }

    def _accuracy(self, name: str) -> dict[str, int] | None:
        counts = [self._correct[name, correct] for correct in (True, False)]
        return {"right": counts[0], "images": sum(counts)} if any(counts) else None

    def _both_right(self) -> dict[str, Any] | None:
        if not self._right:
            return None
        counts = {name: self._right[name] for name in RIGHT}
        return {**counts, "p": sign_test(counts["a"], counts["b"])}

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
        yield from self._warnings_of_classes()

    def _warnings_of_classes(self) -> Iterator[str]:
        named = {name for name in "ab" if self._named[name]}
        a, b = self._names
        if len(named) == 1:
            yield f"only {named.pop().upper()} has class names: classes are compared by index"
        elif (least := min(len(a), len(b))) > 1 and len(a & b) < _OVERLAP * least:
            yield (
                f"hardly any predicted class has a name that both folders use (A: "
                f"{_examples(a - b)}; B: {_examples(b - a)}): classes are compared by name"
            )
        judged = {name for name, _ in self._correct}
        if len(judged) == 1:
            yield (
                f"only {judged.pop().upper()} has true classes: explain the other with --truth as "
                f"well, to count who is right"
            )
        if self._truths:
            yield f"images with another true class in B than in A: {self._truths}"


def _method_order(key: tuple[str, str]) -> tuple[str, int]:
    return key[0], [*EXPLAINED.values()].index(key[1])


def sign_test(a: int, b: int) -> float | None:
    """Return the two-sided p-value of `a` of `a + b` successes, each with probability one half.

    McNemar's exact test: of the images that one network alone classifies correctly, each is as
    likely to be the one's or the other's. None without such images. Computed with logarithms, to
    nine digits for a million images.
    """
    count = a + b
    if not count:
        return None
    whole = math.lgamma(count + 1) - count * math.log(2)
    tail = math.fsum(
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(count - k + 1))
        for k in range(min(a, b) + 1)
    )
    return min(1.0, 2 * tail)


def _examples(names: set[str]) -> str:
    return ", ".join(repr(name[:40]) for name in sorted(names)[:3])


def _same_run(a: Row, b: Row) -> bool:
    """Return whether two runs used the same weights in the same way, by their records."""
    fields = ("weights_hash", *SETTINGS)
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
