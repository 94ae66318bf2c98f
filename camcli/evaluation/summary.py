"""What a run comes to, each part once: means and intervals, curves, wins, and remarks."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from camcli.errors import AnnotationError
from camcli.evaluation.ground_truth import ANNOTATED, ANOTHER, UNANNOTATED
from camcli.evaluation.intervals import Cell, cells
from camcli.evaluation.metrics import METRICS, win
from camcli.evaluation.run import Scores, Values

KEPT = 0.3
"""The rank correlation with a random network's map above which a map is said not to follow the
network. With ImageNet weights Grad-CAM has 0.04 and Guided Backpropagation 0.50."""


@dataclass(frozen=True)
class Summary:
    """Of all that is known of the images; each part is made when it is first asked for."""

    scores: Scores

    @cached_property
    def cells(self) -> dict[str, dict[str, Cell]]:
        """By metric and row, in the table's order."""
        return cells(self.scores)

    @cached_property
    def curves(self) -> dict[str, Values]:
        """By metric the mean of its curve over the images, (M,S) for M rows; NaN where none has
        any."""
        return {
            name: np.ma.masked_invalid(trace).mean(axis=1).filled(np.nan)
            for name, trace in self.scores.traces.items()
            if trace.ndim == 3
        }

    @cached_property
    def wins(self) -> dict[str, dict[str, float | None]]:
        """The share of images, in percent, on which one map wins against another, for every two."""
        rows = self.scores.study.rows
        kept = torch.from_numpy(self.scores.traces.get("win", np.full((len(rows), 0), np.nan)))
        return {
            row: {
                other: None if other == row else number(float(win(ours, theirs[None]).nanmean()))
                for other, theirs in zip(rows, kept, strict=True)
            }
            for row, ours in zip(rows, kept, strict=True)
        }

    @cached_property
    def by_class(self) -> dict[str, dict[str, float]]:
        """By metric of maps against annotations and row: the mean over classes of their means."""
        scores = self.scores
        members: dict[str, list[int]] = defaultdict(list)
        for image, facts in scores.facts.items():
            if facts.label is not None:
                members[facts.label].append(image)
        return {
            name: {
                row: float(np.mean([values[i, images].mean() for images in members.values()]))
                for i, row in enumerate(scores.study.rows)
            }
            for name, values in scores.values.items()
            if members and METRICS[name].on_truth
        }

    @cached_property
    def top1(self) -> dict[str, float] | None:
        """By row ILSVRC's top-1 localisation, for which another class than the image's is a miss.

        None where another class than the best one is explained.
        """
        scores = self.scores
        values = scores.values.get("localised")
        if values is None or scores.study.target != "pred" or not scores.facts:
            return None
        images = list(scores.facts)
        return {
            row: float(values[i, images].sum() / (len(images) + self._of_another))
            for i, row in enumerate(scores.study.rows)
        }

    @property
    def _of_another(self) -> int:
        """Images that were skipped because they have no object of their class."""
        return sum(skipped.reason == ANOTHER for skipped in self.scores.skipped.values())

    @cached_property
    def remarks(self) -> tuple[str, ...]:
        """What one should know of the values, a line each."""
        return *self._of_maps(), *self._of_truth(), *left_out(self.scores)

    def _of_maps(self) -> Iterator[str]:
        scores, count = self.scores, len(self.scores.facts)
        for row, empty in zip(scores.study.rows, scores.empty, strict=True):
            if empty.any():
                yield (
                    f"{row}: {empty.sum()} of {count} maps are empty, nowhere above zero: what "
                    "they score is not of what they show"
                )
        for name, column in self.cells.items():
            most = max(cell.images for cell in column.values())
            for row, cell in column.items():
                if cell.images < most:
                    yield f"{name} of {row}: defined on {cell.images} of {most} images"
            if METRICS[name].on_mosaics and not most:
                yield (
                    f"{name} needs 4 images of different classes of which the network is surer "
                    f"than {scores.study.protocol.sure:g} (--sure)"
                )
        for method in scores.study.methods:
            kept = self.cells["sanity"][method].mean if "sanity" in self.cells else math.nan
            if kept > KEPT:
                yield (
                    f"{method} fails the sanity check: much of its map stays when the weights "
                    f"become random (rank correlation {kept:.2f})"
                )

    def _of_truth(self) -> Iterator[str]:
        classes = {facts.label for facts in self.scores.facts.values()}
        if len(classes) > 1 and "pointing" in self.by_class:
            means = _listed(self.by_class["pointing"])
            yield f"pointing, mean over {len(classes)} classes: {means}"
        if self.top1 and self._of_another:
            yield f"localised, with images of another class as misses (top-1): {_listed(self.top1)}"


def left_out(scores: Scores) -> Iterator[str]:
    """A line for each reason for which images are in no metric, with how many they are."""
    every = len(scores.study.sources)
    for reason, count in Counter(one.reason for one in scores.skipped.values()).most_common():
        detail = next(one.detail for one in scores.skipped.values() if one.reason == reason)
        hint = f" (--target {ANNOTATED} takes one that they have)" if reason == ANOTHER else ""
        hint = f" ({detail})" if reason == UNANNOTATED else hint
        yield f"{count} of {every} images skipped: {reason}{hint}"
    wrong = sum(isinstance(error, AnnotationError) for error in scores.failures.values())
    if wrong:
        yield f"{wrong} of {every} images skipped: wrong annotation"
    if failed := len(scores.failures) - wrong:
        yield f"{failed} of {every} images failed"


def number(value: float) -> float | None:
    """The same, without NaN, which JSON has not."""
    return value if math.isfinite(value) else None


def _listed(values: dict[str, float]) -> str:
    return ", ".join(f"{row} {value:.3f}" for row, value in values.items())
