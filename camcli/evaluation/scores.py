"""The values of all images, collected from what a run yields."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from camcli.errors import CamcliError
from camcli.evaluation.study import Study

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Failure:
    """An image that could not be read or explained, or whose annotation is wrong, and why."""

    number: int
    error: CamcliError


@dataclass(frozen=True)
class Skipped:
    """An image that is left out because of its annotation; `detail` names the missing file or row.

    `reason` is one of the reasons in `ground_truth`.
    """

    number: int
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class ExplainedClass:
    """The explained class of an image, its probability, and its name in the annotations.

    A value of a regression has no probability.
    """

    index: int
    probability: float | None
    label: str | None = None


@dataclass(frozen=True)
class BatchScores:
    """Values by metric (M,n) for M rows and the images `numbers`, and traces by metric (M,n,...).

    `classes` and `empty` (M,n), whether a map has no positive value, are those of single images.
    Scores of grids have neither.
    """

    numbers: Sequence[int]
    classes: Sequence[ExplainedClass]
    values: Mapping[str, Floats]
    traces: Mapping[str, Floats]
    empty: NDArray[np.bool_] | None = None


Result: TypeAlias = BatchScores | Failure | Skipped
"""What a run yields."""


class Scores:
    """The values of all images by metric, (M,n) for M rows and n images.

    A value is NaN where the image has no result or the metric is not defined. `empty` (M,n) marks
    maps without a positive value. `classes`, `failures` and `skipped` are by image number. `traces`
    (M,n,...) are by metric, for the images that have one, in any order.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        shape = len(study.rows), len(study.sources)
        self.values = {name: np.full(shape, np.nan) for name in study.metrics}
        self.empty = np.zeros(shape, bool)
        self.classes: dict[int, ExplainedClass] = {}
        self.failures: dict[int, CamcliError] = {}
        self.skipped: dict[int, Skipped] = {}
        self._traces: dict[str, list[Floats]] = defaultdict(list)

    def add(self, result: Result) -> None:
        """Add a result of the run."""
        if isinstance(result, Failure):
            self.failures[result.number] = result.error
            return
        if isinstance(result, Skipped):
            self.skipped[result.number] = result
            return
        self.classes.update(zip(result.numbers, result.classes, strict=False))
        if result.empty is not None:
            self.empty[:, list(result.numbers)] = result.empty
        for name, values in result.values.items():
            self.values[name][:, list(result.numbers)] = values
        for name, trace in result.traces.items():
            self._traces[name].append(trace)

    @property
    def traces(self) -> dict[str, Floats]:
        """The trace of each metric that has one, (M,n,...)."""
        return {name: np.concatenate(parts, axis=1) for name, parts in self._traces.items()}
