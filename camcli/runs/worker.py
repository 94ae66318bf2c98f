"""A worker explains windows of images, one after the other, with a network of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from camcli.capture.targets import ExplainedText, is_true
from camcli.engine.explain import explain, needs_target_layer, pick_methods
from camcli.engine.explanation import Explanation
from camcli.engine.predict import probabilities, ranking
from camcli.engine.survey import centres_at, with_target_layer
from camcli.errors import ImageError, one_line
from camcli.images.geometry import MapArray
from camcli.methods.registry import METHODS
from camcli.models.families import find_layer
from camcli.models.model import Model
from camcli.runs.ahead import Out
from camcli.runs.batches import BatchLimit, by_shape, is_out_of_memory, run_batches, stacked
from camcli.runs.items import Existing, Explained, Failed, LeftOut, Loaded, Result
from camcli.runs.job import Job
from camcli.runs.names import Wanted
from camcli.runs.predictions import Prediction, no_prediction, predictions


class Worker:
    """Explains windows of a job's images with `model`, and halves batches when memory is short."""

    def __init__(self, job: Job, model: Model) -> None:
        self.job = job
        self.model = model
        self.limit = BatchLimit[Loaded](job.inputs.batch_size)
        methods = pick_methods(job.methods)
        self.needs_layer = needs_target_layer(methods, job.layers)
        self.reruns = job.window.batch_size if any(method.reruns for method in methods) else 1

    def __call__(self, window: Sequence[Loaded | Failed | Existing]) -> list[Explained]:
        """Explain the images of a window, and return its items in their order."""
        loaded = [item for item in window if isinstance(item, Loaded)]
        done: dict[str, Explained] = {}
        decided: dict[str, Prediction] = {}
        for item, found in self._each(loaded, self._predicted) if self.job.only else ():
            if isinstance(found, Failed):
                done[_image_name(item)] = found
            elif self.job.selects(found):
                decided[_image_name(item)] = found
            else:
                done[_image_name(item)] = Existing(LeftOut(found))
        chosen = [item for item in loaded if _image_name(item) not in done]
        for item, results in self._each(chosen, partial(self._results, decided)):
            done[_image_name(item)] = results if isinstance(results, Failed) else (item, results)
        return [done[_image_name(one)] if isinstance(one, Loaded) else one for one in window]

    def find_target_layer(self, batch: Sequence[Loaded]) -> None:
        """Find the automatic layer by a traced pass, if it is needed and not known."""
        if self.needs_layer and batch and self.model.layer is None:
            self.model = with_target_layer(self.model, (stacked(batch, self.model),))

    def find_centres(self, batch: Sequence[Loaded]) -> None:
        """Find the places of the layers' cells by a traced pass, if they are needed."""
        if batch and any(METHODS[name].at_layer for name in self.job.methods):
            model = self.model
            paths = [path or model.layer for path in self.job.layers]
            found = [find_layer(model.module, path) for path in paths if path]
            centres_at(model.module, found, (stacked(batch, model),))

    def _each(
        self, items: Sequence[Loaded], run: Callable[[list[Loaded]], Sequence[Out]]
    ) -> Iterator[tuple[Loaded, Out | Failed]]:
        """Run batches of images, and yield each image with its result or as Failed."""
        batches = by_shape(items)
        for batch, found in run_batches(batches, self.limit, run, lambda: self.reruns):
            if isinstance(found, Exception):
                yield from ((item, _failed(item, self.model, found)) for item in batch)
            else:
                yield from zip(batch, found, strict=True)

    def _predicted(self, batch: Sequence[Loaded]) -> list[Prediction]:
        """Return the predictions for a batch by a forward pass alone."""
        inputs, region = stacked(batch, self.model), regions(self.job, batch)
        return self._predictions(batch, *(ranking(self.model, inputs, region=region) or ()))

    def _results(
        self, decided: Mapping[str, Prediction], batch: Sequence[Loaded]
    ) -> list[list[Result]]:
        """Explain a batch. Predictions that are `decided` stay, whatever the last digits are."""
        job, classes = self.job, [self.job.label(item.source).classes for item in batch]
        self.find_target_layer(batch)
        targets = [replace(one, among=classes) if is_true(one) else one for one in job.parsed]
        found = explain(
            *(self.model, stacked(batch, self.model), job.methods, targets, job.layers),
            window=self.limit.limited(job.window),
            fuse=job.fuse,
            backward=job.backward_rule,
            region=regions(job, batch),
        )
        if decided:
            predicted = [decided[_image_name(item)] for item in batch]
        else:
            first = next((shown for shown in found if shown.ranking is not None), found[0])
            predicted = self._predictions(batch, first.ranking, first.confidences)
        return [*_results_by_image(found, job, predicted)]

    def _predictions(
        self,
        batch: Sequence[Loaded],
        ranked: Tensor | None = None,
        confidences: Tensor | None = None,
    ) -> list[Prediction]:
        labels = [self.job.label(item.source) for item in batch]
        if ranked is None or confidences is None:
            return [*map(no_prediction, labels)]
        return [*predictions(ranked, confidences, labels, self.model.class_names)]


def regions(job: Job, batch: Sequence[Loaded]) -> Tensor | None:
    """Return the job's region in pixels of each input, (N,4)."""
    if job.region is None:
        return None
    return torch.tensor([item.crop.to_input(job.region, item.size) for item in batch])


def best_classes(job: Job, loaded: Loaded, count: int) -> list[tuple[str, float]]:
    """Return the most probable classes of an image by their names, with their probabilities.

    Returns none for a network without probabilities.
    """
    model = job.model
    inputs = stacked([loaded], model)
    shares = probabilities(model, inputs, region=regions(job, [loaded]))
    if shares is None:
        return []
    found = shares[0]
    best = found.topk(min(count, len(found)))
    names = model.class_names or [f"class {i}" for i in range(len(found))]
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [(names[index], share) for index, share in pairs]


def _image_name(item: Loaded) -> str:
    return item.source.image


def _failed(item: Loaded, model: Model, error: Exception) -> Failed:
    reason = one_line(error)
    if is_out_of_memory(error):  # a larger batch would have been halved
        reason = f"out of memory for one image of {item.size[0]}x{item.size[1]}: {reason}"
    return Failed(item.source, ImageError(f"{item.source.path}: {model.name} failed ({reason})"))


def _results_by_image(
    found: Sequence[Explanation], job: Job, predicted: Sequence[Prediction]
) -> Iterator[list[Result]]:
    """Yield the results of each image, after copying each batch of maps to the host as a whole."""
    hosted = [
        _hosted(shown, wanted, predicted)
        if shown.classes is None or shown.classes.ndim == 1
        else _hosted_parts(shown, wanted, job, predicted)
        for shown, wanted in zip(found, job.results, strict=True)
    ]
    return (list(chain.from_iterable(of_one_image)) for of_one_image in zip(*hosted, strict=True))


def _hosted_parts(
    shown: Explanation, wanted: Wanted, job: Job, predicted: Sequence[Prediction]
) -> list[list[Result]]:
    """Return for each image the results of those of P parts that it has, named by the part.

    An image without a part has one result that says so, with an empty map.
    """
    every = range(shown.maps.shape[1])
    parts = [_hosted(_part(shown, part), wanted, predicted) for part in every]
    return [
        [
            replace(one, wanted=job.result_of_part(wanted, part, one.class_index))
            for part, (one,) in enumerate(of_image)
            if one.class_index is not None and one.class_index >= 0
        ]
        or [replace(of_image[0][0], class_index=None, score=None, probability=None, box=None)]
        for of_image in zip(*parts, strict=True)
    ]


def _part(shown: Explanation, part: int) -> Explanation:
    def column(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[:, part]

    return replace(
        shown,
        maps=shown.maps[:, part],
        scores=shown.scores[:, part],
        classes=column(shown.classes),
        probabilities=column(shown.probabilities),
        boxes=column(shown.boxes),
        drawn=column(shown.drawn),
    )


def _hosted(
    shown: Explanation, wanted: Wanted, predicted: Sequence[Prediction]
) -> list[list[Result]]:
    """Return a list for each image, with its only result."""
    maps, drawn = _on_host(shown.maps), None if shown.drawn is None else _on_host(shown.drawn)
    columns = shown.scores, shown.classes, shown.probabilities, shown.boxes
    nothing = [None] * len(maps)
    *facts, boxes = (nothing if column is None else column.tolist() for column in columns)
    rest = shown.texts or nothing, nothing if drawn is None else drawn
    by_image = zip(maps, *facts, predicted, boxes, *rest, strict=True)
    return [
        [Result(wanted, shown.layer, shown.centres, _own_parts(values, of_image[-2]), *of_image)]
        for values, *of_image in by_image
    ]


def _on_host(maps: Tensor) -> NDArray[np.float32]:
    return maps.float().contiguous().cpu().numpy()


def _own_parts(values: MapArray, text: ExplainedText | None) -> MapArray:
    """Return the maps of a text's own words: another text of the batch may have more words."""
    return values[: len(text.words)] if text and text.words else values
