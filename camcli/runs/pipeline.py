"""Run a job, from paths to files: reading threads -> workers -> writing threads, in input order.

Reading, explaining and writing happen in different threads. Each side is at most one batch ahead of
the next. A Budget limits the memory of decoded images: pixels for which it has no room are dropped
after the network's input was made of them, and read again where a picture is drawn. The stages are
generators, and each pulls from the one before it.

Workers explain batches (see `parallel`). There is a reading thread and a writing thread per core:
Pillow, OpenCV and the disk release the interpreter lock.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from typing import Any, Protocol, TypeAlias

from camcli.errors import ImageError, without_frames
from camcli.images.decode import STDIN, fetch
from camcli.images.geometry import Pixels
from camcli.images.memory import Budget
from camcli.images.source import Source
from camcli.images.tars import split_name
from camcli.runs import resume
from camcli.runs.ahead import In, Out, Queue, Submit, read_ahead
from camcli.runs.batches import REFUSALS, read_image, windows_of
from camcli.runs.items import Existing, Explained, Failed, LeftOut, Loaded, Unchanged
from camcli.runs.job import Job
from camcli.runs.manifest import Row
from camcli.runs.names import name_of
from camcli.runs.outputs import named_files
from camcli.runs.packing import packing
from camcli.runs.parallel import models_for, pop_result, run_windows
from camcli.runs.predictions import prediction_of
from camcli.runs.recording import recording
from camcli.runs.rows import Rows
from camcli.runs.save import write_results
from camcli.runs.shared_scale import check_shared_scale, share_scale
from camcli.runs.worker import Worker

Read: TypeAlias = Loaded | Failed | Existing
"""The outcome of reading a source."""
KeptRows: TypeAlias = dict[str, Unchanged]
"""The rows of images that are read again, but not written, by the images' names."""
RowSink: TypeAlias = Callable[[list[Row]], object]
"""A function for the rows of images that a stopped run had finished, but not yielded."""


class Executor(Protocol):
    """Explains all of a job's images, and yields rows image by image, in input order."""

    def __call__(
        self, job: Job, earlier: Rows, on_late: RowSink
    ) -> Generator[list[Row], None, None]: ...


def run(job: Job, executor: Executor | None = None) -> Generator[list[Row], None, None]:
    """Explain every source, and yield the manifest's rows image by image, in input order.

    A failure of one image becomes the error of its rows, and the others go on. A model, method or
    target that does not fit raises CamcliError. The manifest and run.json are written at the end,
    also when the caller stops early. The executor is this process unless another is given.
    """
    if job.scale == "run":
        check_shared_scale(job)
    job.check()
    with recording(job) as record:
        with packing(record) as finish:
            found = (executor or run_locally)(record.job, record.rows, finish)
            with closing(found) as images:
                yield from map(finish, images)
        if job.scale == "run":
            share_scale(record.job, record.rows, record.add)


def run_locally(job: Job, earlier: Rows, on_late: RowSink) -> Generator[list[Row], None, None]:
    """Execute a job in this process."""
    workers, batch_size = job.inputs.workers, job.inputs.batch_size
    reading, writing = ThreadPoolExecutor(workers), ThreadPoolExecutor(workers)
    writes: Queue[list[Row]] = deque()
    kept: KeptRows = {}
    budget = Budget(job.inputs.memory)
    try:
        sources: Iterable[Source | Existing] = job.sources
        if job.options.skip_existing:
            sources = _to_read(job, earlier, kept, reading)
        load = partial(load_image, job, budget=budget)
        loaded = read_ahead(_unless_done(reading), load, sources, batch_size)
        with closing(_explained(job, loaded)) as explained:
            items = _clear_outdated(job, explained, earlier, kept)
            save = partial(write_results, job, budget=budget)
            yield from _write_behind(_unless_done(writing), save, items, batch_size, writes)
    finally:
        reading.shutdown(cancel_futures=True)
        writing.shutdown()  # after writing explained images, one batch at most
        for future in writes:  # written, but not yielded before an interruption
            if not future.exception():
                on_late(future.result())


def load_image(job: Job, source: Source | Existing, budget: Budget | None = None) -> Read:
    """Read, decode and preprocess a source; an error becomes Failed.

    The pixels are held for the pictures of the maps as long as `budget` has room for them.
    """
    if isinstance(source, Existing):
        return source
    if job.truth and job.needs_truth and (problem := job.truth.problem(source)):
        return Failed(source, ImageError(f"{source.path}: {problem}"))
    try:
        path = fetch(source.path)
        picture, tensor, crop = read_image(path, job.model, job.inputs, budget)
    except ImageError as error:
        return Failed(source, without_frames(error))
    pixels: Pixels | None = picture.pixels
    shape = picture.pixels.shape[0], picture.pixels.shape[1]
    if budget and path != STDIN:  # which cannot be read again
        pixels = budget.held(picture.pixels) if job.draws else None
    digest, facts = job.digest_of(path), (picture.levels, picture.frame)
    return Loaded(source, shape, pixels, tensor, crop, digest, *facts)


def _kept_rows(job: Job, earlier: Rows) -> Callable[[Source], Unchanged | None]:
    """Return a function from an image to its rows, or to None if the image is to be explained.

    Rows are kept if they are complete, and of the same settings, versions, image and true class.
    """
    layers = Counter((wanted.method, wanted.target) for wanted in job.results)
    files = [(wanted, output) for wanted in job.results for output in job.saves_of(wanted)]

    def kept(source: Source) -> Unchanged | None:
        rows = Unchanged(
            row
            for row in earlier.of_image(source.image)
            if row["status"] != "error" and (row["method"], row["target"]) in layers
        )
        # A file that no row names may come from an earlier run, and from another image.
        named = {file for row in rows for file in named_files(row).values()}
        if job.save_to == "tar":
            named = {member for tar, member in map(split_name, named) if tar}
        if (
            source.path == STDIN
            or Counter((row["method"], row["target"]) for row in rows) != layers
            or not named.issuperset(
                name_of(source, *file, job.picture_format, job.naming) for file in files
            )
        ):
            return None
        if job.truth and not all(job.truth.is_in(row, source) for row in rows):
            return None
        digest = job.digest_of(source.path)
        if not all(row.get("digest") == digest for row in rows):
            return None
        found = prediction_of(rows[0])
        return rows if job.selects(found) else LeftOut(found)

    return kept


def _to_read(
    job: Job, earlier: Rows, kept: KeptRows, executor: ThreadPoolExecutor
) -> Iterator[Source | Existing]:
    """Yield the sources to read, and for windows that are complete the rows instead.

    In a window with an image to explain all images are read, since a batch of another size would
    change the last digits. The results that are `kept` are not written again.
    """
    rows_of = _kept_rows(job, earlier)

    def with_rows(window: Sequence[Source]) -> list[tuple[Source, Unchanged | None]]:
        return [(source, rows_of(source)) for source in window]

    windows = windows_of(job.sources, job.inputs.batch_size)
    for window in read_ahead(executor.submit, with_rows, windows, job.inputs.workers):
        found = {source.image: rows for source, rows in window if rows is not None}
        if len(found) == len(window):
            yield from map(Existing, found.values())
        else:
            kept.update(found)
            yield from (source for source, _ in window)


def _unless_done(executor: ThreadPoolExecutor) -> Submit[Any, Any]:
    """Return a function that submits work, except for existing results, where there is none."""

    def submit(function: Callable[[Any], Any], item: Any) -> Future[Any]:
        if not isinstance(item, Existing):
            return executor.submit(function, item)
        done: Future[Any] = Future()
        done.set_result(function(item))
        return done

    return submit


def _clear_outdated(
    job: Job, explained: Iterable[Explained], earlier: Rows, kept: KeptRows
) -> Iterator[Explained]:
    """Yield the results; remove the files of outdated rows before the first one.

    A run that fails before it explains anything thus leaves them as they are.
    """
    for number, item in enumerate(explained):
        if number == 0:
            resume.clear(job.output, earlier)
        known = kept.pop(item[0].source.image, None) if isinstance(item, tuple) else None
        yield item if known is None else Existing(known)


def _write_behind(
    submit: Submit[In, Out],
    function: Callable[[In], Out],
    items: Iterable[In],
    behind: int,
    waiting: Queue[Out],
) -> Iterator[Out]:
    """Apply a function in threads and yield the results in order, each as soon as it is done.

    At most `behind` items are in `waiting`. A caller that stops early handles the rest of them.
    """
    for item in items:
        waiting.append(submit(function, item))
        while waiting and (len(waiting) > behind or waiting[0].done()):
            yield pop_result(waiting)
    while waiting:
        yield pop_result(waiting)


def _explained(job: Job, loaded: Iterable[Read]) -> Generator[Explained, None, None]:
    """Explain window by window. The only image of a run gets all threads."""
    windows = windows_of(loaded, job.inputs.batch_size)
    if (first := next(windows, None)) is None:
        return
    workers = _workers(job, first)
    windows = itertools.chain([first], windows)
    del first  # or its photos would be kept to the end
    with closing(run_windows(workers, windows)) as found:
        for explained in found:
            yield from explained


def _workers(job: Job, first: Sequence[Read]) -> Sequence[Worker]:
    """Return the workers for a job, given its first window."""
    images = [item for item in first if isinstance(item, Loaded)]
    here = Worker(job, job.model)
    with suppress(*REFUSALS):  # which explaining reports for each image
        here.find_target_layer(images[:1])
        here.find_centres(images[:1])
    return [Worker(job, model) for model in models_for(here.model, len(first))]
