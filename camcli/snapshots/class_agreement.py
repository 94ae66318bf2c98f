"""Count how often two networks predict the same class, and which of them is right."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from camcli.snapshots.networks import Contrast

RIGHT = ("both", "a", "b", "neither")
_NAMES = 10_000
"""The most class names of a folder that are compared with the other folder's."""
_OVERLAP = 0.1
"""The share of class names in both folders below which a warning is due."""


class ClassAgreement:
    """Counts of images by the predicted classes of two networks.

    Memory grows by a digest for each image.
    """

    def __init__(self) -> None:
        self._judged: set[bytes] = set()
        self._same, self._right = Counter[bool](), Counter[str]()
        self._correct = Counter[tuple[str, bool]]()
        self._names: tuple[set[str], set[str]] = set(), set()
        self._named, self._truths = Counter[str](), 0

    def add(self, image: bytes, one: Contrast) -> None:
        """Add a result that both have, of which `image` is a digest of the image's name.

        An image counts once, by its first result with the best classes of both.
        """
        if one.rows is None or one.same_class is None or image in self._judged:
            return
        self._judged.add(image)
        self._same[one.same_class] += 1
        self._right.update([one.right] if one.right else ())
        for name, row, names, label in zip("ab", one.rows, self._names, one.predicted, strict=True):
            if row.get("correct") is not None:
                self._correct[name, row["correct"]] += 1
            if label and label.name is not None:
                self._named[name] += 1
                names.update([label.name] if len(names) < _NAMES else ())
        truths = {row.get("true_name") for row in one.rows} - {None}
        self._truths += len(truths) > 1

    def record(self) -> dict[str, Any]:
        """Return the counts as a JSON object."""
        return {
            "classes": {"same": self._same[True], "other": self._same[False]},
            "correct": {name: self._accuracy(name) for name in "ab"},
            "right": self._both_right(),
        }

    def _accuracy(self, name: str) -> dict[str, int] | None:
        counts = [self._correct[name, correct] for correct in (True, False)]
        return {"right": counts[0], "images": sum(counts)} if any(counts) else None

    def _both_right(self) -> dict[str, Any] | None:
        if not self._right:
            return None
        counts = {name: self._right[name] for name in RIGHT}
        return {**counts, "p": sign_test(counts["a"], counts["b"])}

    def warnings(self) -> Iterator[str]:
        """Yield a line for each reason why the counts may mislead."""
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
