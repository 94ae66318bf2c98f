"""A run: images -> batches -> evidence -> a value for each image, row and metric."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from camcli.engine.explain import needs_target_layer, pick_methods
from camcli.engine.predict import class_and_probability
from camcli.engine.survey import with_target_layer
from camcli.errors import (
    AnnotationError,
    ImageError,
    MethodError,
    NotAnnotatedError,
    one_line,
    without_frames,
)
from camcli.evaluation.evidence import BatchEvidence, MapEvidence
from camcli.evaluation.grid_pointing import GridEvidence, Tile, TilePool, grid_evidence
from camcli.evaluation.ground_truth import (
    NOT_ANNOTATED,
    ONLY_DIFFICULT,
    OTHER_CLASS,
    TOO_FEW,
    UNKNOWN_CLASS,
    Annotation,
    explained_classes,
)
from camcli.evaluation.registry import METRICS, Metric
from camcli.evaluation.scores import BatchScores, ExplainedClass, Failure, Floats, Skipped
from camcli.evaluation.study import MethodRunner, Study
from camcli.evaluation.workload import inputs_per_image
from camcli.images.memory import Budget
from camcli.images.source import Source
from camcli.runs.batches import (
    BatchLimit,
    by_shape,
    read_ahead,
    read_image,
    run_batches,
    stacked,
    windows_of,
)


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


def run_study(
    study: Study, passed: Callable[[float], None] | None = None
) -> Iterator[BatchScores | Failure | Skipped]:
    """Measure every image. An image that fails is yielded as a Failure and the others go on.

    `passed` is called after each forward pass with the work that it was, in images.

    The values of a batch are yielded together, those of a grid once four images for it are there.
    With ground truth, images without an object of their class are skipped. Raises CamcliError for a
    model, a method or a target that suits no image.
    """
    study.check()
    metrics = [METRICS[name] for name in study.metrics]
    on_grids = [metric for metric in metrics if metric.place == "grid"]
    on_images = [metric for metric in metrics if metric.place != "grid"]
    pools: dict[torch.Size, TilePool] = defaultdict(TilePool)
    batch_size, runner = study.inputs.batch_size, study.runner()
    limit = BatchLimit[Sample](batch_size)

    def measure(batch: list[Sample]) -> tuple[BatchScores, list[Tile]]:
        nonlocal runner
        images = stacked(batch, study.model)
        runner = replace(_with_target_layer(runner, images), batch_size=limit.size)
        if passed is not None:
            whole = inputs_per_image(runner, images, metrics)
            runner = replace(runner, passed=lambda inputs: passed(inputs / whole))
        scores = _batch_scores(_batch_evidence(runner, images, batch), on_images)
        return scores, list(_confident(runner, images, batch)) if on_grids else []

    with ThreadPoolExecutor(study.inputs.workers) as reading:
        load = partial(_load, study, Budget(study.inputs.memory))
        read = read_ahead(reading.submit, load, enumerate(study.sources), batch_size)
        for window in windows_of(read, batch_size):
            known = list(_with_classes(study, window, limit)) if study.truth else window
            yield from (item for item in known if not isinstance(item, Sample))
            batches = by_shape(_samples(known))
            for batch, found in run_batches(batches, limit, measure, lambda: limit.size):
                if isinstance(found, Exception):
                    yield from _failures(study, batch, found)
                    continue
                scores, tiles = found
                complete = pools[batch[0].input.shape].add(tiles)
                yield from _grid_scores(runner, complete, on_grids)
                yield scores  # last, since its images then count as measured


def _samples(window: Iterable[ReadResult]) -> list[Sample]:
    return [item for item in window if isinstance(item, Sample)]


def _with_target_layer(runner: MethodRunner, images: Tensor) -> MethodRunner:
    """Find the automatic layer once, so that not every explanation searches for it."""
    if not needs_target_layer(pick_methods(runner.methods), [runner.layer]):
        return runner
    return replace(runner, model=with_target_layer(runner.model, (images,)))


def _load(study: Study, budget: Budget, numbered: tuple[int, Source]) -> ReadResult:
    number, source = numbered
    try:
        picture, image, crop = read_image(source.path, study.model, study.inputs, budget)
        if not study.truth:
            return Sample(number, image)
        shape = picture.pixels.shape[0], picture.pixels.shape[1]
        found = study.truth.read(source.name, shape)
    except NotAnnotatedError as error:
        return Skipped(number, NOT_ANNOTATED, str(error))
    except (ImageError, AnnotationError) as error:
        return Failure(number, without_frames(error))
    # An error in the class map concerns all images and ends the run.
    objects = study.truth.by_class(one for one in found if not one.difficult)
    if not objects:
        known = study.truth.by_class(found)
        return Skipped(number, ONLY_DIFFICULT if known else UNKNOWN_CLASS)
    enough = {label: found for label, found in objects.items() if len(found) >= study.min_objects}
    if not enough:
        return Skipped(number, TOO_FEW)
    return Sample(number, image, Annotation(shape, crop, enough, objects.keys() - enough.keys()))


def _with_classes(
    study: Study, window: Sequence[ReadResult], limit: BatchLimit[Sample]
) -> Iterator[ReadResult]:
    """Add to each image the class to explain; skip those without an object of it.

    This takes a forward pass, and saves the maps of the skipped images.
    """

    def classes_of(batch: list[Sample]) -> list[int]:
        images = stacked(batch, study.model)
        return explained_classes(study.model, study.target, images, _annotations(batch))

    yield from (item for item in window if not isinstance(item, Sample))
    for batch, labels in run_batches(by_shape(_samples(window)), limit, classes_of):
        if isinstance(labels, Exception):
            yield from _failures(study, batch, labels)
            continue
        for sample, annotation, label in zip(batch, _annotations(batch), labels, strict=True):
            if label in annotation.objects:
                yield replace(sample, label=label)
            else:
                reason = TOO_FEW if label in annotation.too_few else OTHER_CLASS
                yield Skipped(sample.number, reason)


def _annotations(batch: Iterable[Sample]) -> list[Annotation]:
    return [sample.annotation for sample in batch if sample.annotation]


def _batch_evidence(runner: MethodRunner, images: Tensor, batch: Sequence[Sample]) -> BatchEvidence:
    labels = [sample.label for sample in batch if sample.label is not None]
    runner = replace(runner, target=torch.tensor(labels)) if labels else runner
    numbers = [sample.number for sample in batch]
    return BatchEvidence(runner, images, numbers, _annotations(batch))


def _failures(study: Study, batch: Iterable[Sample], error: Exception) -> Iterator[Failure]:
    for sample in batch:
        path = study.sources[sample.number].path
        reason = f"{path}: {study.model.name} failed ({one_line(error)})"
        yield Failure(sample.number, ImageError(reason))


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


def _confident(runner: MethodRunner, images: Tensor, batch: Sequence[Sample]) -> Iterator[Tile]:
    classes, probability = class_and_probability(runner.model, images)
    predicted, confidence = classes.tolist(), probability.tolist()
    for sample, image, label, share in zip(batch, images, predicted, confidence, strict=True):
        if share >= runner.protocol.min_confidence:
            yield Tile(sample.number, image.clone(), label)


def _grid_scores(
    runner: MethodRunner, grids: list[list[Tile]], metrics: Sequence[Metric]
) -> Iterator[BatchScores]:
    """Yield the scores of grids, a few at a time: a grid is as large as four images."""
    limit = BatchLimit[list[Tile]](max(1, runner.batch_size // 4))
    for some, rows in run_batches([grids] if grids else [], limit, partial(grid_evidence, runner)):
        if isinstance(rows, Exception):
            raise MethodError(
                f"grid: {runner.model.name} failed on images twice as large as its own "
                f"({one_line(rows)}): try --grid-image-size half"
            ) from None
        yield BatchScores(
            numbers=[tile.number for cell in zip(*some, strict=True) for tile in cell],
            classes=[],
            values={metric.name: _values(metric, rows.values()) for metric in metrics},
            traces={},
        )
