"""The summary of a run: means with intervals, curves, matrices of pairs, and remarks."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from camcli.errors import AnnotationError
from camcli.evaluation.estimates import Estimate, estimates
from camcli.evaluation.ground_truth import ANNOTATED, NOT_ANNOTATED, OTHER_CLASS
from camcli.evaluation.registry import METRICS, Curve, Matrix, Metric
from camcli.evaluation.scores import Floats, Scores
from camcli.speed import cached_property


@dataclass(frozen=True)
class Summary:
    """A summary of scores. Each part is computed when it is first asked for."""

    scores: Scores

    @cached_property
    def estimates(self) -> dict[str, dict[str, Estimate]]:
        """Means and intervals by metric and row, in the table's order."""
        return estimates(self.scores)

    @cached_property
    def curves(self) -> dict[str, Floats]:
        """The mean curves of each metric that has them, (M,S) for M rows; NaN where not defined."""
        return {
            name: np.ma.masked_invalid(trace).mean(axis=1).filled(np.nan)
            for name, trace in self.scores.traces.items()
            if isinstance(METRICS[name].trace, Curve)
        }

    @cached_property
    def matrices(self) -> dict[str, dict[str, dict[str, float | None]]]:
        """By metric, row and other row, the metric's mean for this pair; None on the diagonal."""
        rows = self.scores.study.rows
        return {
            name: {
                row: {
                    other: None if other == row else _pair_mean(METRICS[name], own, theirs)
                    for other, theirs in zip(rows, trace, strict=True)
                }
                for row, own in zip(rows, trace, strict=True)
            }
            for name, trace in self.scores.traces.items()
            if METRICS[name].has_matrix
        }

    @cached_property
    def class_means(self) -> dict[str, dict[str, float]]:
        """By metric on annotations and row, the mean over classes of the means over images."""
        scores = self.scores
        members: dict[str, list[int]] = defaultdict(list)
        for image, explained in scores.classes.items():
            if explained.label is not None:
                members[explained.label].append(image)
        return {
            name: {
                row: float(np.mean([values[i, images].mean() for images in members.values()]))
                for i, row in enumerate(scores.study.rows)
            }
            for name, values in scores.values.items()
            if members and METRICS[name].place == "annotation"
        }

    @cached_property
    def top1(self) -> dict[str, dict[str, float]]:
        """By metric that asks for it and row, the mean with images of another class counted as 0.

        Empty where the target is not the predicted class.
        """
        scores = self.scores
        if scores.study.target != "pred" or not scores.classes:
            return {}
        images = list(scores.classes)
        return {
            name: {
                row: float(values[i, images].sum() / (len(images) + self._of_other_class))
                for i, row in enumerate(scores.study.rows)
            }
            for name, values in scores.values.items()
            if METRICS[name].top1
        }

    @property
    def _of_other_class(self) -> int:
        return sum(skipped.reason == OTHER_CLASS for skipped in self.scores.skipped.values())

    @cached_property
    def remarks(self) -> tuple[str, ...]:
        """Notes on the values, a line each."""
        remarks = (self._empty_maps(), self._undefined(), self._alarms(), self._annotated())
        return *(line for lines in remarks for line in lines), *left_out(self.scores)

    def _empty_maps(self) -> Iterator[str]:
        scores, count = self.scores, len(self.scores.classes)
        for row, empty in zip(scores.study.rows, scores.empty, strict=True):
            if empty.any():
                yield (
                    f"{row}: {empty.sum()} of {count} maps are empty (no positive value): their "
                    "scores do not describe a map"
                )

    def _undefined(self) -> Iterator[str]:
        for name, column in self.estimates.items():
            most = max(one.images for one in column.values())
            for row, one in column.items():
                if one.images < most:
                    yield f"{name} of {row}: defined on {one.images} of {most} images"
            if METRICS[name].place == "grid" and not most:
                confidence = self.scores.study.protocol.min_confidence
                yield (
                    f"{name} needs 4 images of different classes, each predicted with a "
                    f"probability of at least {confidence:g} (--min-confidence)"
                )

    def _alarms(self) -> Iterator[str]:
        for name, column in self.estimates.items():
            for method in self.scores.study.methods:
                alarm, mean = METRICS[name].alarm, column[method].mean
                if alarm and mean > alarm.above:
                    yield f"{method} {alarm.message.format(value=mean)}"

    def _annotated(self) -> Iterator[str]:
        classes = {explained.label for explained in self.scores.classes.values()}
        for name, means in self.class_means.items():
            if METRICS[name].class_mean and len(classes) > 1:
                yield f"{name}, mean over {len(classes)} classes: {_listed(means)}"
        for name, means in self.top1.items():
            if self._of_other_class:
                yield f"{name}, with images of another class as 0 (top-1): {_listed(means)}"


def left_out(scores: Scores) -> Iterator[str]:
    """Yield a line for each reason for which images are in no metric, with their number."""
    total = len(scores.study.sources)
    for reason, count in Counter(one.reason for one in scores.skipped.values()).most_common():
        detail = next(one.detail for one in scores.skipped.values() if one.reason == reason)
        hints = {OTHER_CLASS: f"--target {ANNOTATED} explains a class that they have"}
        hint = (hints | {NOT_ANNOTATED: detail}).get(reason)
        yield f"{count} of {total} images skipped: {reason}" + (f" ({hint})" if hint else "")
    wrong = sum(isinstance(error, AnnotationError) for error in scores.failures.values())
    if wrong:
        yield f"{wrong} of {total} images skipped: wrong annotation"
    if failed := len(scores.failures) - wrong:
        yield f"{failed} of {total} images failed"


def finite(value: float) -> float | None:
    """Return the value, or None for NaN, which JSON does not have."""
    return value if math.isfinite(value) else None


def _pair_mean(metric: Metric, own: Floats, other: Floats) -> float | None:
    """Return a metric's mean for one map and a single other one, from their traces (n,)."""
    assert isinstance(metric.trace, Matrix)
    evidence = {
        metric.trace.evidence: torch.from_numpy(own),
        metric.trace.others: torch.from_numpy(other)[None],
    }
    return finite(float(metric.function(**evidence).nanmean()))


def _listed(values: dict[str, float]) -> str:
    return ", ".join(f"{row} {value:.3f}" for row, value in values.items())
