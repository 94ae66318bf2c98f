"""A worker measures windows of images, one after the other, with a network of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from camcli.engine.explain import needs_target_layer, pick_methods
from camcli.engine.predict import class_and_probability
from camcli.engine.survey import with_target_layer
from camcli.errors import ImageError, MethodError, one_line
from camcli.evaluation.evidence import BatchEvidence, MapEvidence
from camcli.evaluation.grid_pointing import Grid, GridEvidence, Tile, grid_evidence
from camcli.evaluation.ground_truth import OTHER_CLASS, TOO_FEW, Annotation, explained_classes
from camcli.evaluation.registry import METRICS, Metric
from camcli.evaluation.scores import (
    BatchScores,
    ExplainedClass,
    Failure,
    Floats,
    Result,
    Skipped,
)
from camcli.evaluation.study import MethodRunner, Study
from camcli.evaluation.workload import inputs_per_image
from camcli.models.model import Model
from camcli.runs.batches import BatchLimit, by_shape, run_batches, stacked


@dataclass(frozen=True)
class Sample:
    """An image's number in the run and the network's input (3,H,W).

    With ground truth also its annotation and, once it is known, the class to explain.
    """

    number: int
    input: Tensor
    annotation: Annotation | None = None
    label: int | None = None


ReadResult: TypeAlias = Sample | Failure | Skipped
Item: TypeAlias = ReadResult | Grid
Measured: TypeAlias = tuple[Result, Sequence[Tile]]
"""A result, and the images of its batch that may be part of a grid."""


class Measurer:
    """Measures windows of a study's images with `model`, and halves batches when memory is short.

    `passed` is called after each forward pass with the work that it was, in images.
    """

    def __init__(
        self, study: Study, model: Model, passed: Callable[[float], None] | None = None
    ) -> None:
        self.study = study
        self.passed = passed
        self.runner = replace(study.runner(), model=model)
        self.limit = BatchLimit[Sample](study.inputs.batch_size)
        metrics = [METRICS[name] for name in study.metrics]
        self.on_grids = [metric for metric in metrics if metric.place == "grid"]
        self.on_images = [metric for metric in metrics if metric.place != "grid"]

    @property
    def model(self) -> Model:
        """The network, with its automatic layer once that is known."""
        return self.runner.model

    def __call__(self, window: Sequence[Item]) -> list[Measured]:
        """Measure the images and grids of a window, and return what is known of its other items."""
        samples = [item for item in window if isinstance(item, Sample)]
        grids = [item for item in window if isinstance(item, Grid)]
        found: list[Measured] = [
            (item, ()) for item in window if not isinstance(item, Sample | Grid)
        ]
        if self.study.truth:
            known = list(self._with_classes(samples))
            samples = [item for item in known if isinstance(item, Sample)]
            found += [(item, ()) for item in known if not isinstance(item, Sample)]
        return [*found, *self._measured(samples), *((one, ()) for one in self._on_grids(grids))]

    def find_target_layer(self, batch: Sequence[Sample]) -> None:
        """Find the automatic layer by a traced pass, if it is needed and not known."""
        needed = needs_target_layer(pick_methods(self.runner.methods), [self.runner.layer])
        if needed and batch and self.model.layer is None:
            model = with_target_layer(self.model, (stacked(batch, self.model),))
            self.runner = replace(self.runner, model=model)

    def _measured(self, samples: Iterable[Sample]) -> Iterator[Measured]:
        batches = run_batches(by_shape(samples), self.limit, self._measure, lambda: self.limit.size)
        for batch, found in batches:
            if isinstance(found, Exception):
                yield from ((failure, ()) for failure in self._failures(batch, found))
            else:
                yield found

    def _measure(self, batch: list[Sample]) -> Measured:
        self.find_target_layer(batch)
        images = stacked(batch, self.model)
        scores = _batch_scores(self._evidence(images, batch), self.on_images)
        return scores, list(self._confident(images, batch)) if self.on_grids else []

    def _evidence(self, images: Tensor, batch: Sequence[Sample]) -> BatchEvidence:
        labels = [sample.label for sample in batch if sample.label is not None]
        runner = self._counting(images)
        runner = replace(runner, target=torch.tensor(labels)) if labels else runner
        numbers = [sample.number for sample in batch]
        return BatchEvidence(runner, images, numbers, _annotations(batch))

    def _counting(self, images: Tensor) -> MethodRunner:
        """Return the runner for batches of images (N,3,H,W) within the limit, and their grids."""
        runner, passed = replace(self.runner, batch_size=self.limit.size), self.passed
        if passed is None:
            return runner
        whole = inputs_per_image(runner, images, [*self.on_images, *self.on_grids])
        return replace(runner, passed=lambda inputs: passed(inputs / whole))

    def _with_classes(self, samples: Iterable[Sample]) -> Iterator[ReadResult]:
        """Add to each image the class to explain; skip those without an object of it.

        This takes a forward pass, and saves the maps of the skipped images.
        """

        def classes_of(batch: list[Sample]) -> list[int]:
            images = stacked(batch, self.model)
            return explained_classes(self.model, self.study.target, images, _annotations(batch))

        for batch, labels in run_batches(by_shape(samples), self.limit, classes_of):
            if isinstance(labels, Exception):
                yield from self._failures(batch, labels)
                continue
            for sample, annotation, label in zip(batch, _annotations(batch), labels, strict=True):
                if label in annotation.objects:
                    yield replace(sample, label=label)
                else:
                    reason = TOO_FEW if label in annotation.too_few else OTHER_CLASS
                    yield Skipped(sample.number, reason)

    def _failures(self, batch: Iterable[Sample], error: Exception) -> Iterator[Failure]:
        for sample in batch:
            path = self.study.sources[sample.number].path
            reason = f"{path}: {self.model.name} failed ({one_line(error)})"
            yield Failure(sample.number, ImageError(reason))

    def _confident(self, images: Tensor, batch: Sequence[Sample]) -> Iterator[Tile]:
        classes, probability = class_and_probability(self.model, images)
        predicted, confidence = classes.tolist(), probability.tolist()
        for sample, image, label, share in zip(batch, images, predicted, confidence, strict=True):
            if share >= self.study.protocol.min_confidence:
                yield Tile(sample.number, image.clone(), label)

    def _on_grids(self, grids: Iterable[Grid]) -> Iterator[Result]:
        """Yield the scores of grids, a few at a time: a grid is as large as four images.

        The results that wait for a grid follow it.
        """
        limit = BatchLimit[Grid](max(1, self.limit.size // 4))

        def measure(batch: list[Grid]) -> dict[str, GridEvidence]:
            runner = self._counting(batch[0].input[None])
            return grid_evidence(runner, [grid.tiles for grid in batch])

        for some, rows in run_batches(by_shape(grids), limit, measure):
            if isinstance(rows, Exception):
                raise MethodError(
                    f"grid: {self.model.name} failed on images twice as large as its own "
                    f"({one_line(rows)}): try --grid-image-size half"
                ) from None
            yield BatchScores(
                numbers=[
                    tile.number
                    for cell in zip(*(grid.tiles for grid in some), strict=True)
                    for tile in cell
                ],
                classes=[],
                values={metric.name: _values(metric, rows.values()) for metric in self.on_grids},
                traces={},
            )
            yield from (grid.waiting for grid in some if grid.waiting)


def _annotations(batch: Iterable[Sample]) -> list[Annotation]:
    return [sample.annotation for sample in batch if sample.annotation]


def _batch_scores(batch: BatchEvidence, metrics: Sequence[Metric]) -> BatchScores:
    rows, runner = list(batch.by_row.values()), batch.runner
    classes, probability = (
        (batch.classes, batch.probability)
        if metrics
        # without an explanation
        else class_and_probability(runner.model, batch.images, runner.target)
    )
    shares = [None] * len(classes) if probability is None else probability.tolist()
    explained = [*map(ExplainedClass, classes.tolist(), shares)]
    for i, annotation in enumerate(batch.annotations):
        label = annotation.objects[explained[i].index][0].label
        explained[i] = replace(explained[i], label=label)
    return BatchScores(
        numbers=batch.numbers,
        classes=explained,
        values={metric.name: _values(metric, rows) for metric in metrics},
        traces={
            metric.name: _on_host(getattr(row, metric.trace.evidence) for row in rows)
            for metric in metrics
            if metric.trace
        },
        empty=np.asarray(batch.empty.cpu()) if metrics else None,
    )


def _values(metric: Metric, rows: Iterable[MapEvidence | GridEvidence]) -> Floats:
    """Compute a metric of the n images of each of M rows, (M,n)."""
    evidence = [{name: getattr(row, name) for name in metric.needs} for row in rows]
    if metric.place == "annotation":
        return np.array([_image_by_image(metric, of_row) for of_row in evidence], np.float64)
    return _on_host(metric.function(**of_row) for of_row in evidence)


def _image_by_image(metric: Metric, evidence: dict[str, Iterable[object]]) -> list[float]:
    images = zip(*evidence.values(), strict=True)
    return [float(metric.function(**dict(zip(evidence, image, strict=True)))) for image in images]


def _on_host(rows: Iterable[Tensor]) -> Floats:
    """Stack tensors (n,...) to (M,n,...) and copy them to the host at once."""
    return np.asarray(torch.stack(list(rows)).cpu().double().numpy())
