"""A run: images -> batches -> evidence -> a value for each image, row and metric."""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from camcli.capture.targets import ClassTarget, parse_target
from camcli.engine.explain import aimed, needs_survey, pick_methods, surveyed
from camcli.errors import (
    AnnotationError,
    CamcliError,
    ImageError,
    MethodError,
    NotAnnotatedError,
    TargetError,
    one_line,
)
from camcli.evaluation.baselines import CONTROLS
from camcli.evaluation.evidence import MosaicTrial, Setup, Subject, Trial, mosaic_trials
from camcli.evaluation.grid_pointing import Pool, Tile
from camcli.evaluation.ground_truth import (
    ANNOTATED,
    ANOTHER,
    DIFFICULT,
    FEWER,
    UNANNOTATED,
    UNKNOWN,
    Scene,
    Truth,
    followed,
)
from camcli.evaluation.metrics import METRICS, Metric
from camcli.evaluation.protocol import Protocol
from camcli.images.decode import MAX_PIXELS, decode
from camcli.images.find import Source
from camcli.images.preprocess import preprocess
from camcli.models.model import Model
from camcli.runs.batch_size import BatchLimit
from camcli.runs.batches import read_ahead

Values: TypeAlias = NDArray[np.float64]
_UNFIT = (RuntimeError, AssertionError)
"""Of torch: no memory, or an input that is too small for the network or unfit."""


@dataclass(frozen=True)
class Loaded:
    """An image's number in the run, and the network's input (3,H,W).

    With ground truth also its annotations and, once it is known, the class that is explained.
    """

    number: int
    image: Tensor
    scene: Scene | None = None
    label: int | None = None


@dataclass(frozen=True)
class Study:
    """Everything that decides an evaluation's result."""

    sources: Sequence[Source]
    model: Model
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    protocol: Protocol = field(default_factory=Protocol)
    target: str = "pred"
    layer: str | None = None
    fit: str = "preset"
    batch_size: int = 16
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    max_pixels: int = MAX_PIXELS
    truth: Truth | None = None
    objects: int = 1
    """Only classes count of which an image has at least so many."""

    def check(self) -> None:
        """Refuse before any work what no image can change. Raises CamcliError."""
        pick_methods(self.methods)
        if self.model.task != "classification":
            raise MethodError(
                f"metrics follow the probability of a class, and {self.model.name} is a "
                f"{self.model.task} network: expected one for classification"
            )
        truths = [name for name in self.metrics if METRICS[name].on_truth]
        if truths and self.truth is None:
            raise AnnotationError(
                f"metric '{truths[0]}' holds maps against annotations: expected --boxes "
                "FORMAT:PATH, as in voc:Annotations"
            )
        if self.truth is None and self.objects > 1:
            raise AnnotationError(f"--objects {self.objects} counts annotated ones: give --boxes")
        if self.target == ANNOTATED:
            if self.truth is None:
                raise TargetError(f"target '{ANNOTATED}' needs annotations: expected --boxes")
            return
        target = parse_target(self.target, self.model.class_names, self.model.num_classes)
        if not isinstance(target, ClassTarget) or target.form:
            raise TargetError(
                f"target '{self.target}': metrics follow the probability of a class; expected "
                f"pred, topK, a class index or name"
            )

    @property
    def rows(self) -> tuple[str, ...]:
        """The table's rows: the methods and the controls."""
        return *self.methods, *CONTROLS


@dataclass(frozen=True)
class Failure:
    """An image that could not be read or explained, or its annotation not, and why."""

    number: int
    error: CamcliError


@dataclass(frozen=True)
class Skipped:
    """An image that is left out for want of ground truth, and why; `detail` is what was missed."""

    number: int
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Facts:
    """The class that was followed on an image, its probability, and what annotations call it."""

    class_index: int
    probability: float
    label: str | None = None


@dataclass(frozen=True)
class Measured:
    """Values by metric (M,n) for M rows and the images `numbers`, and traces by metric (M,n,...).

    `facts` are empty where images are measured for a second time, in grids; `empty` (M,n) says
    which maps showed nothing, where maps of single images were made.
    """

    numbers: Sequence[int]
    facts: Sequence[Facts]
    values: Mapping[str, Values]
    traces: Mapping[str, Values]
    empty: NDArray[np.bool_] | None = None


class Scores:
    """What is known of all images: by metric the values (M,n) of M rows and n images.

    They are NaN where there is no image to measure or the metric is not defined for it. `empty`
    (M,n) are the maps that showed nothing. `facts`, `failures` and `skipped` are by image number;
    `traces` by metric, (M,n,...), of the images that have one, in any order.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        shape = len(study.rows), len(study.sources)
        self.values = {name: np.full(shape, np.nan) for name in study.metrics}
        self.empty = np.zeros(shape, bool)
        self.facts: dict[int, Facts] = {}
        self.failures: dict[int, CamcliError] = {}
        self.skipped: dict[int, Skipped] = {}
        self._traces: dict[str, list[Values]] = defaultdict(list)

    def add(self, found: Measured | Failure | Skipped) -> None:
        """Take in what `run` yields."""
        if isinstance(found, Failure):
            self.failures[found.number] = found.error
            return
        if isinstance(found, Skipped):
            self.skipped[found.number] = found
            return
        self.facts.update(zip(found.numbers, found.facts, strict=False))
        if found.empty is not None:
            self.empty[:, list(found.numbers)] = found.empty
        for name, values in found.values.items():
            self.values[name][:, list(found.numbers)] = values
        for name, trace in found.traces.items():
            self._traces[name].append(trace)

    @property
    def traces(self) -> dict[str, Values]:
        """By metric what it keeps of each row and image, (M,n,...)."""
        return {name: np.concatenate(parts, axis=1) for name, parts in self._traces.items()}


def run(study: Study) -> Iterator[Measured | Failure | Skipped]:
    """Measure every image; what fails for one is told and the others go on.

    A batch's values come together; those in grids when a grid is full, of images that came before.
    With ground truth, images that have no object of their class are skipped. What is wrong with the
    model, a method or the target raises CamcliError.
    """
    study.check()
    metrics = [METRICS[name] for name in study.metrics]
    grids = [metric for metric in metrics if metric.on_mosaics]
    single = [metric for metric in metrics if not metric.on_mosaics]
    pools: dict[torch.Size, Pool] = defaultdict(Pool)
    allowed: BatchLimit[Loaded] = BatchLimit(study.batch_size)
    setup = _setup(study)
    with ThreadPoolExecutor(study.workers) as decoding:
        stream = read_ahead(
            decoding, partial(_load, study), enumerate(study.sources), study.batch_size
        )
        while window := list(itertools.islice(stream, study.batch_size)):
            known = list(_aimed(study, window)) if study.truth else window
            yield from (item for item in known if not isinstance(item, Loaded))
            for batch in allowed.split(_batches(known)):
                images = _stacked(batch, study)
                try:
                    setup = replace(_surveyed(setup, images), batch_size=allowed.size)
                    found = _measured(_subject(setup, images, batch), single)
                    tiles = list(_sure(setup, images, batch)) if grids else []
                except _UNFIT as error:
                    if not allowed.halve(error, batch, allowed.size):
                        yield from _failures(study, batch, error)
                    continue
                yield found
                made = pools[images.shape[1:]].add(tiles)
                yield from _on_mosaics(setup, made, grids)


def _setup(study: Study) -> Setup:
    return Setup(
        model=study.model,
        methods=study.methods,
        protocol=study.protocol,
        target=study.target,
        layer=study.layer,
        batch_size=study.batch_size,
    )


def _surveyed(setup: Setup, images: Tensor) -> Setup:
    """With the automatic layer known, so that each explanation need not look for it again."""
    if not needs_survey(pick_methods(setup.methods), [setup.layer]):
        return setup
    return replace(setup, model=surveyed(setup.model, (images,)))


def _load(study: Study, numbered: tuple[int, Source]) -> Loaded | Failure | Skipped:
    number, source = numbered
    try:
        pixels = decode(source.path, study.max_pixels)
        image, crop = preprocess(pixels, study.model.preset, study.fit)
        if not study.truth:
            return Loaded(number, image)
        size = pixels.shape[0], pixels.shape[1]
        found = study.truth.read(source.name, size)
    except NotAnnotatedError as error:
        return Skipped(number, UNANNOTATED, str(error))
    except (ImageError, AnnotationError) as error:
        return Failure(number, error)
    # What is wrong with the classes is so for all images, and ends the run.
    objects = study.truth.by_class(one for one in found if not one.difficult)
    if not objects:
        return Skipped(number, DIFFICULT if study.truth.by_class(found) else UNKNOWN)
    enough = {label: found for label, found in objects.items() if len(found) >= study.objects}
    if not enough:
        return Skipped(number, FEWER)
    return Loaded(number, image, Scene(size, crop, enough, objects.keys() - enough.keys()))


def _aimed(
    study: Study, window: Iterable[Loaded | Failure | Skipped]
) -> Iterator[Loaded | Failure | Skipped]:
    """The images of a window with the class that is explained; those without it are skipped.

    It takes a forward pass of its own, and saves the maps of images that are left out.
    """
    yield from (item for item in window if not isinstance(item, Loaded))
    for batch in _batches(window):
        scenes = _scenes(batch)
        try:
            labels = followed(study.model, study.target, _stacked(batch, study), scenes)
        except _UNFIT as error:
            yield from _failures(study, batch, error)
            continue
        for item, scene, label in zip(batch, scenes, labels, strict=True):
            if label in scene.objects:
                yield replace(item, label=label)
            else:
                yield Skipped(item.number, FEWER if label in scene.few else ANOTHER)


def _scenes(batch: Iterable[Loaded]) -> list[Scene]:
    """The annotations of a batch's images: of all of them, or of none in a run without any."""
    return [item.scene for item in batch if item.scene]


def _batches(window: Iterable[Loaded | Failure | Skipped]) -> list[list[Loaded]]:
    """The images of a window that were read, those of one shape together."""
    shapes: dict[torch.Size, list[Loaded]] = defaultdict(list)
    for item in window:
        if isinstance(item, Loaded):
            shapes[item.image.shape].append(item)
    return list(shapes.values())


def _subject(setup: Setup, images: Tensor, batch: Sequence[Loaded]) -> Subject:
    """A batch's Subject, of the classes that were chosen by ground truth if there is some."""
    labels = [item.label for item in batch if item.label is not None]
    aimed = replace(setup, target=torch.tensor(labels)) if labels else setup
    return Subject(aimed, images, [item.number for item in batch], _scenes(batch))


def _stacked(batch: Sequence[Loaded], study: Study) -> Tensor:
    images = torch.stack([item.image for item in batch])
    model = study.model
    return images.to(model.device, model.dtype, memory_format=torch.channels_last)


def _failures(study: Study, batch: Iterable[Loaded], error: Exception) -> Iterator[Failure]:
    for item in batch:
        where = study.sources[item.number].path
        reason = f"{where}: {study.model.name} failed ({one_line(error)})"
        yield Failure(item.number, ImageError(reason))


def _measured(subject: Subject, metrics: Sequence[Metric]) -> Measured:
    trials, setup = list(subject.trials.values()), subject.setup
    classes, probability = (
        (subject.classes, subject.probability)
        if metrics
        else aimed(setup.model, subject.images, setup.target)  # and nothing is explained
    )
    facts = [*map(Facts, classes.tolist(), probability.tolist())]
    for i, scene in enumerate(subject.scenes):
        facts[i] = replace(facts[i], label=scene.objects[facts[i].class_index][0].label)
    return Measured(
        numbers=subject.numbers,
        facts=facts,
        values={metric.name: _values(metric, trials) for metric in metrics},
        traces={m.name: _stack(getattr(t, m.trace) for t in trials) for m in metrics if m.trace},
        empty=np.asarray(subject.empty.cpu()) if metrics else None,
    )


def _values(metric: Metric, trials: Iterable[Trial | MosaicTrial]) -> Values:
    """A metric of each trial's images, (M,n)."""
    return _stack(
        metric.function(**{name: getattr(trial, name) for name in metric.needs}) for trial in trials
    )


def _stack(rows: Iterable[Tensor]) -> Values:
    """One row of a tensor for each, brought to the host as a whole."""
    return np.asarray(torch.stack(list(rows)).cpu().double().numpy())


def _sure(setup: Setup, images: Tensor, batch: Sequence[Loaded]) -> Iterator[Tile]:
    """The images of which the network is sure enough for a grid, with their best class."""
    best, confidence = (column.tolist() for column in aimed(setup.model, images))
    for item, image, label, share in zip(batch, images, best, confidence, strict=True):
        if share >= setup.protocol.sure:
            yield Tile(item.number, image.clone(), label)


def _on_mosaics(
    setup: Setup, grids: list[list[Tile]], metrics: Sequence[Metric]
) -> Iterator[Measured]:
    """What grids give, a few at a time: they are four times as large."""
    allowed: BatchLimit[list[Tile]] = BatchLimit(max(1, setup.batch_size // 4))
    for some in allowed.split([grids] if grids else []):
        try:
            trials = mosaic_trials(setup, some)
        except _UNFIT as error:
            if allowed.halve(error, some, 1):
                continue
            raise MethodError(
                f"grid: {setup.model.name} failed on images twice as large as its own "
                f"({one_line(error)}): try --cells half"
            ) from None
        yield Measured(
            numbers=[tile.number for cell in zip(*some, strict=True) for tile in cell],
            facts=[],
            values={metric.name: _values(metric, trials.values()) for metric in metrics},
            traces={},
        )
