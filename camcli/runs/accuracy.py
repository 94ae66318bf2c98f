"""Counts of images with a true class, and of those that the network gets right."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from camcli.runs.items import LeftOut
from camcli.runs.manifest import Row

ACCURACY = ("images", "top1", "top5")
"""The counts: images with a true class, those whose best class is a true one, and those with a true
one among the five best. The last is missing for networks with five classes or fewer."""
_ENOUGH = 50
"""The least number of images of which `is_chance` judges."""


def accuracy(found: Sequence[Row]) -> Counter[str]:
    """Return the counts for an image with these rows, or for one that is left out."""
    rows = [found.prediction._asdict()] if isinstance(found, LeftOut) else found
    known = next((row for row in rows if row.get("correct") is not None), None)
    if known is None:
        return Counter()
    right = True, known["correct"], known.get("top5")
    facts = zip(ACCURACY, right, strict=True)
    return Counter({name: int(one) for name, one in facts if one is not None})


def counts_of(right: Mapping[str, int]) -> dict[str, int]:
    """Return the counts for a record, all of them if there are no images."""
    return {name: right.get(name, 0) for name in ACCURACY if name in right or not right}


def is_chance(right: Mapping[str, int], classes: int) -> bool:
    """Return whether counts are as by chance among a number of classes.

    They are if `top1` is within two standard deviations of chance, or below, for 50 images or more.
    """
    images, share = right["images"], 1 / classes
    highest = images * share + 2 * math.sqrt(images * share * (1 - share))
    return images >= _ENOUGH and right["top1"] <= highest
