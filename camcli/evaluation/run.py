"""A run: images -> batches -> evidence -> a value for each image, row and metric."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial

from camcli.errors import AnnotationError, ImageError, NotAnnotatedError, without_frames
from camcli.evaluation.grid_pointing import GridQueue
from camcli.evaluation.ground_truth import (
    NOT_ANNOTATED,
    ONLY_DIFFICULT,
    TOO_FEW,
    UNKNOWN_CLASS,
    Annotation,
)
from camcli.evaluation.measurer import Item, Measurer, ReadResult, Sample
from camcli.evaluation.scores import Failure, Result, Skipped
from camcli.evaluation.study import Study
from camcli.images.memory import Budget
from camcli.images.source import Source
from camcli.runs.ahead import read_ahead
from camcli.runs.batches import REFUSALS, read_image, windows_of
from camcli.runs.parallel import models_for, run_windows

THREADS = 2
"""The least number of threads of a worker beside another. Two workers with one thread each take a
tenth longer for the passes of squeezenet1_0 than one with both, since nothing keeps a core from
them: an evaluation reads few images and writes no pictures."""


def run_study(
    study: Study, passed: Callable[[float], None] | None = None
) -> Generator[Result, None, None]:
    """Measure every image. An image that fails is yielded as a Failure and the others go on.

    Batches run in parallel (see `runs.parallel`). `passed` is called after each forward pass with
    the work that it was, in images, in the thread that ran it.

    The values of a batch are yielded together, those of a grid once four images for it are there.
    With ground truth, images without an object of their class are skipped. Raises CamcliError for a
    model, a method or a target that suits no image.
    """
    study.check()
    batch_size, queue = study.inputs.batch_size, GridQueue()
    with ThreadPoolExecutor(study.inputs.workers) as reading:
        load = partial(_load, study, Budget(study.inputs.memory))
        read = read_ahead(reading.submit, load, enumerate(study.sources), batch_size)
        windows = windows_of(read, batch_size)
        if (first := next(windows, None)) is None:
            return
        workers = _measurers(study, first, passed)
        windows = itertools.chain([first], windows)
        del first  # or its images would be kept to the end
        yield from _measured(workers, _with_grids(windows, queue, len(workers)), queue)
        while queue.complete:
            yield from _measured(workers, [queue.take()], queue)


def _measurers(
    study: Study, first: Sequence[ReadResult], passed: Callable[[float], None] | None
) -> list[Measurer]:
    """Return the workers for a study, given its first window."""
    here = Measurer(study, study.model, passed)
    images = [item for item in first if isinstance(item, Sample)]
    with suppress(*REFUSALS):  # which measuring reports for each image
        here.find_target_layer(images[:1])
    models = models_for(here.model, len(first), THREADS)
    return [Measurer(study, model, passed) for model in models]


def _with_grids(
    windows: Iterable[Sequence[ReadResult]], queue: GridQueue, least: int
) -> Iterator[Sequence[Item]]:
    """Yield windows of images, and between them the complete grids, `least` or more at a time."""
    for window in windows:
        yield window
        if len(queue.complete) >= least:
            yield queue.take()


def _measured(
    workers: Sequence[Measurer], windows: Iterable[Sequence[Item]], queue: GridQueue
) -> Iterator[Result]:
    """Yield the results of windows. Those of a batch that completes grids wait for the grids."""
    with closing(run_windows(workers, windows)) as found:
        for result, tiles in itertools.chain.from_iterable(found):
            if not queue.add(tiles, result):
                yield result


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
