"""Accuracy, confusions, and where the heat lies, for each class and for all images."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from camcli.audit.samples import Numbers, Samples
from camcli.evaluation.intervals import mean_intervals
from camcli.images.geometry import Floats

Record: TypeAlias = dict[str, Any]
"""A part of the audit's record, of plain values."""
EXAMPLES = 6
"""The most examples of a confusion or a group."""
CONFUSIONS = 100
"""The most confusions that are recorded."""


def estimate(values: ArrayLike, seed: int = 0) -> Record | None:
    """Return the mean of finite values (n,), its interval and n; None without any value."""
    every = np.asarray(values, np.float64)
    if not (found := every[np.isfinite(every)]).size:
        return None
    ((low, high),) = mean_intervals(found[None], seed).tolist()
    ends = {"low": _finite(low), "high": _finite(high)}
    return {"mean": float(found.mean()), **ends, "images": found.size}


def class_record(samples: Samples, numbers: Numbers, label: int | None, seed: int = 0) -> Record:
    """Return the record of some samples: of a class, or with `label` None of all classes."""
    correct, confidence = samples.correct[numbers], samples.confidence[numbers]
    shares = {name: estimate(values[numbers], seed) for name, values in samples.shares.items()}
    return {
        "class": None if label is None else samples.classes[label],
        "indices": [] if label is None else sorted(samples.indices[label]),
        "images": len(numbers),
        "correct": int(correct.sum()),
        "accuracy": estimate(correct, seed),
        "top5": estimate(samples.top5[numbers], seed),
        "confidence_right": estimate(confidence[correct], seed),
        "confidence_wrong": estimate(confidence[~correct], seed),
        "shares": shares,
        "maps": {
            "right": as_rows(samples.mean_heat(numbers[correct])),
            "wrong": as_rows(samples.mean_heat(numbers[~correct])),
        },
    }


def confusions(samples: Samples) -> list[Record]:
    """Return the most frequent pairs of a true and a predicted class, at most CONFUSIONS.

    The examples are those of which the network is surest.
    """
    wrong = np.flatnonzero(~samples.correct)
    keys = samples.labels[wrong] * len(samples.names) + samples.predicted[wrong]
    pairs, counts = np.unique(keys, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:CONFUSIONS]
    return [_confusion(samples, wrong[keys == pairs[i]]) for i in order]


def _confusion(samples: Samples, numbers: Numbers) -> Record:
    """Return the record of samples with the same true and predicted class."""
    label, confidence = samples.labels[numbers[0]], samples.confidence[numbers]
    surest = numbers[np.argsort(-confidence, kind="stable")][:EXAMPLES]
    return {
        "true": samples.classes[label],
        "predicted": samples.names[samples.predicted[numbers[0]]],
        "images": len(numbers),
        "share": len(numbers) / len(samples.by_class[label]),
        "confidence": _finite(float(np.mean(confidence))),
        "examples": samples.images(surest),
    }


def as_rows(grid: Floats | None) -> list[list[float]] | None:
    """Return a grid as lists of numbers of five digits."""
    if grid is None:
        return None
    return [[float(f"{value:.5g}") for value in row] for row in np.asarray(grid).tolist()]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
