"""From paths to files: decode threads -> batches -> engine -> writer threads, in input order.

Decoding, the network and writing run in threads of their own. Each side is at most one batch ahead,
so memory is bounded by the batch size and the largest images. Stages are generators, each pulling
from the one before it.

On a CPU a batch is run in two halves side by side, each by half of torch's threads (streams.py); on
a GPU the calling thread runs it whole. There are as many readers as cores, and as many writers,
because Pillow, OpenCV and the disk let go of the interpreter lock; when all are busy the system
shares the cores among them.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor

from camcli.engine.explain import (
    Explanation,
    Said,
    explain,
    needs_survey,
    pick_methods,
    probabilities,
    surveyed,
)
from camcli.errors import ImageError, one_line
from camcli.images.decode import STDIN, decode, fetch
from camcli.images.find import Source
from camcli.images.geometry import MapArray
from camcli.images.preprocess import preprocess
from camcli.images.store import AnyPath
from camcli.models.load import Model
from camcli.runs import resume
from camcli.runs.batch_size import Allowance, is_out_of_memory
from camcli.runs.files import to_json, write
from camcli.runs.job import Existing, Explained, Failed, Job, Loaded, Result, Row, clocked
from camcli.runs.manifest import MANIFEST, RUN, manifest
from camcli.runs.names import Wanted, named
from camcli.runs.parallel import COUNT, next_of, side_by_side, twin
from camcli.runs.save import files_of, written

In = TypeVar("In")
Out = TypeVar("Out")
Queue: TypeAlias = deque[Future[Out]]
Kept: TypeAlias = dict[str, list[Row]]
"""Of images that need not be made again, by their names."""
Read: TypeAlias = Loaded | Failed | Existing
"""What reading a source has come to."""
Late: TypeAlias = Callable[[list[Row]], object]
"""Takes the rows of an image whose turn did not come before a run was stopped."""


class Engine(Protocol):
    """What explains all of a job's images: rows image by image, in input order."""

    def __call__(
        self, job: Job, earlier: Sequence[Row], late: Late
    ) -> Generator[list[Row], None, None]: ...


def run(job: Job, engine: Engine | None = None) -> Generator[list[Row], None, None]:
    """Explain every source; yields the manifest's rows image by image, in input order.

    What fails for one image becomes its rows' error and the others go on; what is wrong with the
    model, method or target raises CamcliError. The manifest and run.json are written at the end,
    also when the caller stops early; where nothing was done, those of an earlier run stay. The
    engine is this process unless another is given.
    """
    job.check()
    earlier = [*job.earlier()] if job.skip_existing or job.overwrite else []
    record, counts = clocked(job), Counter[str]()
    nothing = not job.sources
    with manifest(job.record(MANIFEST), even_empty=nothing) as add:

        def recorded(rows: list[Row]) -> list[Row]:
            counts.update(row["status"] for row in rows)
            add(rows)
            return rows

        try:
            with closing((engine or explained_here)(job, earlier, recorded)) as images:
                yield from map(recorded, images)
        finally:
            if counts or nothing:
                facts = to_json(record(counts), indent=2)
                write(job.record(RUN), facts)
    resume.sweep(job.output, job.part)


def explained_here(
    job: Job, earlier: Sequence[Row], late: Late
) -> Generator[list[Row], None, None]:
    """The engine of one process: threads that read, that run the network, and that write."""
    kept: Kept = {}
    decoding, writing = ThreadPoolExecutor(job.workers), ThreadPoolExecutor(job.workers)
    writes: Queue[list[Row]] = deque()
    try:
        kept.update(_trusted(job, earlier, decoding) if job.skip_existing else {})
        loaded = read_ahead(decoding, partial(_load, job), _asked(job, kept), job.batch_size)
        with closing(_explained(job, loaded)) as explained:
            cleared = _cleared(job, explained, earlier, kept)
            for rows in _write_behind(
                writing, partial(written, job), cleared, job.batch_size, writes
            ):
                kept.pop(rows[0]["image"], None)
                yield rows
    finally:
        decoding.shutdown(cancel_futures=True)
        writing.shutdown()  # what is explained is written: a batch at most
        for future in writes:  # after an interruption: written, but not yet asked for
            if not future.exception():
                rows = future.result()
                kept.pop(rows[0]["image"], None)
                late(rows)
        for rows in kept.values():  # of windows that were not come to
            late(rows)


def best_classes(job: Job, source: Source, count: int) -> list[tuple[str, float]]:
    """The classes that the job's network finds most probable for an image, and how much so."""
    loaded, model = _load(job, source), job.model
    if not isinstance(loaded, Loaded):
        return []
    inputs = loaded.input[None].to(model.device, model.dtype, memory_format=torch.channels_last)
    found = probabilities(model, inputs, region=_regions(job, [loaded]))[0]
    best = found.topk(min(count, len(found)))
    names = model.class_names or [f"class {i}" for i in range(len(found))]
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [(names[index], share) for index, share in pairs]


def _trusted(job: Job, earlier: Iterable[Row], executor: ThreadPoolExecutor) -> Kept:
    """Images all of whose results are there, made of the same bytes in the same way; their rows."""
    known: dict[resume.Key, dict[str | None, Row]] = defaultdict(dict)
    for row in earlier:  # a folder's runs have the same layers, in the same order
        if row["status"] != "error":
            known[resume.key(row)][row.get("layer")] = row
    layers = Counter((wanted.method, wanted.target) for wanted in job.results)

    def rows_of(source: Source) -> list[Row] | None:
        found = [known.get((source.name.as_posix(), *one), {}) for one in layers]
        if source.path == STDIN or [*map(len, found)] != [*layers.values()]:
            return None
        rows, digest = [row for one in found for row in one.values()], _digest(job, source.path)
        if any(row.get("digest") != digest for row in rows):
            return None
        # A file that no row names may be of a run before, and of another image by this name.
        known_files = {name for row in rows for name in named(row).values()}
        files = [name for one in job.results for name in files_of(job, source, one).values()]
        there = (f.as_posix() in known_files and (job.output / f).is_file() for f in files)
        return rows if all(there) else None

    found = zip(job.sources, executor.map(rows_of, job.sources), strict=True)
    return {source.name.as_posix(): rows for source, rows in found if rows}


def _asked(job: Job, kept: Kept) -> Iterator[Source | Existing]:
    """The sources, with the windows that are wholly done as their rows.

    Where one of a window is to be made, all are read: a batch of another size would give other
    last digits. What is kept of it is not written again.
    """
    for start in range(0, len(job.sources), job.batch_size):
        window = job.sources[start : start + job.batch_size]
        known = [kept.get(source.name.as_posix()) for source in window]
        yield from window if None in known else map(Existing, filter(None, known))


def _cleared(
    job: Job, explained: Iterable[Explained], earlier: Iterable[Row], kept: Kept
) -> Iterator[Explained]:
    """Passes on, and before the first result makes room: a run refused leaves what was there."""
    for number, item in enumerate(explained):
        if number == 0 and job.overwrite:
            keep = {resume.key(row) for rows in kept.values() for row in rows}
            resume.clear(job.output, earlier, partial(_among, keep))
        known = kept.get(item[0].source.name.as_posix()) if isinstance(item, tuple) else None
        yield Existing(known) if known else item


def _among(keep: Collection[resume.Key], row: Row, _: str) -> bool:
    return resume.key(row) in keep


def read_ahead(
    executor: ThreadPoolExecutor, function: Callable[[In], Out], items: Iterable[In], ahead: int
) -> Iterator[Out]:
    """`map` in threads, in order, with the next `ahead` items under way or ready."""
    waiting: Queue[Out] = deque()
    for item in items:
        waiting.append(executor.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _write_behind(
    executor: ThreadPoolExecutor,
    function: Callable[[In], Out],
    items: Iterable[In],
    behind: int,
    waiting: Queue[Out],
) -> Iterator[Out]:
    """`map` in threads, in order, each as soon as it is done; `behind` items at most in `waiting`.

    What is still in `waiting` when the caller stops is for the caller to look after.
    """
    for item in items:
        waiting.append(executor.submit(function, item))
        while waiting and (len(waiting) > behind or waiting[0].done()):
            yield next_of(waiting)
    while waiting:
        yield next_of(waiting)


def _load(job: Job, source: Source | Existing) -> Read:
    if isinstance(source, Existing):
        return source
    try:
        path = fetch(source.path)
        digest, pixels = _digest(job, path), decode(path, job.max_pixels)
        return Loaded(source, pixels, *preprocess(pixels, job.model.preset, job.fit), digest)
    except ImageError as error:
        return Failed(source, error)


def _regions(job: Job, batch: Sequence[Loaded]) -> Tensor | None:
    """The job's region, in pixels of each original, in those of the inputs (N,4)."""
    if job.region is None:
        return None
    return torch.tensor([item.crop.to_input(job.region, item.size) for item in batch])


def _digest(job: Job, path: AnyPath) -> str:
    """What a result's row says of how it was made."""
    own = resume.input_digest(path, job.made) if path != STDIN else ""
    return f"{job.settings}-{own}"


def _explained(job: Job, loaded: Iterable[Read]) -> Generator[Explained, None, None]:
    """Window by window of as many images as a batch has, so that the batches of a run are always
    the same; in equal parts where several are explained side by side. An image that is alone in
    its window, the last or the only one, has the threads of all."""
    stream = iter(loaded)
    windows = iter(lambda: list(itertools.islice(stream, job.batch_size)), [])
    if (first := next(windows, None)) is None:
        return
    streams, alone = _streams(job, first), []
    windows = itertools.chain([first], windows)
    del first  # or its photos would be kept to the end

    def parts() -> Iterator[Sequence[Read]]:
        for window in windows:
            size = -(-len(window) // len(streams))
            if len(window) == 1 < len(streams):
                alone.append(window)
            else:
                yield from (window[at : at + size] for at in range(0, len(window), size))

    with closing(side_by_side(streams, parts())) as found:
        for explained in found:
            yield from explained
    for window in alone:
        yield from streams[0](window)


def _streams(job: Job, first: Sequence[Read]) -> Sequence[_Stream]:
    """What explains a job's windows, given the first of them: on a GPU one stream keeps it busy."""
    images = [item for item in first if isinstance(item, Loaded)]
    here = _Stream(job, job.model)
    with suppress(RuntimeError, AssertionError):  # which will be said of each image
        here.survey(images[:1])
    many = job.model.device.type == "cpu" and len(first) > 1 and not job.prompt
    count = min(COUNT, torch.get_num_threads()) if many else 1
    twins = [twin(here.model) for _ in range(count)] if count > 1 else []
    return [_Stream(job, model) for model in twins if model] or [here]


class _Stream:
    """Explains one window after the other, with a network and an allowance of its own."""

    def __init__(self, job: Job, model: Model) -> None:
        self.job = job
        self.model = model
        self.at_once = Allowance[Loaded](job.batch_size)

    def __call__(self, window: Sequence[Read]) -> list[Explained]:
        """Images of one shape go together, and all come out in order. Only where memory is short
        a batch is halved, and what follows has no larger ones."""
        done: dict[Source, Explained] = {}
        for batch in self.at_once.split(_batches(window)):
            try:
                found = self._found(batch)
            # Of torch: no memory, an input that the network is too deep for, or of another size.
            except (RuntimeError, AssertionError) as error:
                if not self.at_once.halved(error, batch, _windows_at_once(self.job)):
                    done.update((item.source, _failed(item, self.model, error)) for item in batch)
                continue
            for item, results in zip(batch, _results(found, self.job.results), strict=True):
                done[item.source] = item, results
        return [done[one.source] if isinstance(one, Loaded) else one for one in window]

    def survey(self, batch: Sequence[Loaded]) -> None:
        """Find the automatic layer, if it is asked for and not known."""
        asked = needs_survey(pick_methods(self.job.methods), self.job.layers)
        if asked and batch and self.model.layer is None:
            self.model = surveyed(self.model, (self._inputs(batch),))

    def _found(self, batch: Sequence[Loaded]) -> list[Explanation]:
        job = self.job
        self.survey(batch)
        return (job.prompt.explain if job.prompt else explain)(
            *(self.model, self._inputs(batch), job.methods, job.targets, job.layers),
            window=self.at_once.of(job.window),
            fuse=job.fuse,
            region=_regions(job, batch),
        )

    def _inputs(self, batch: Sequence[Loaded]) -> Tensor:
        stacked = torch.stack([item.input for item in batch])
        return stacked.to(self.model.device, self.model.dtype, memory_format=torch.channels_last)


def _failed(item: Loaded, model: Model, error: Exception) -> Failed:
    reason = one_line(error)
    if is_out_of_memory(error):  # a batch of more would have been halved
        reason = f"out of memory for one image of {item.size[0]}x{item.size[1]}: {reason}"
    return Failed(item.source, ImageError(f"{item.source.path}: {model.name} failed ({reason})"))


def _windows_at_once(job: Job) -> int:
    """How many changed images the methods run at once for each one."""
    rerun = any({"occluded", "masked"} & method.needs for method in pick_methods(job.methods))
    return job.window.batch_size if rerun else 1


def _batches(window: Iterable[Read]) -> list[list[Loaded]]:
    """The images of a window that can be explained, those of one shape together."""
    shapes: dict[Any, list[Loaded]] = {}
    for item in window:
        if isinstance(item, Loaded):
            shapes.setdefault(item.input.shape, []).append(item)
    return list(shapes.values())


def _results(found: Sequence[Explanation], results: Sequence[Wanted]) -> Iterator[list[Result]]:
    """Image by image from explanations batch by batch, each brought to the host as a whole."""
    hosted = [_hosted(shown, wanted) for shown, wanted in zip(found, results, strict=True)]
    return (list(of_one_image) for of_one_image in zip(*hosted, strict=True))


def _hosted(shown: Explanation, wanted: Wanted) -> list[Result]:
    maps = shown.maps.float().contiguous().cpu().numpy()
    if shown.said is not None:
        texts = zip(maps, shown.scores.tolist(), shown.said, strict=True)
        return [_of_text(wanted, shown.layer, *of_image) for of_image in texts]
    assert shown.classes is not None  # the command line explains classes and texts, no functions
    assert shown.probabilities is not None
    columns = (shown.scores, shown.classes, shown.probabilities)
    boxes = [None] * len(shown.maps) if shown.boxes is None else shown.boxes.tolist()
    facts = zip(*(column.tolist() for column in columns), boxes, strict=True)
    return [
        Result(wanted, shown.layer, values, *fact) for values, fact in zip(maps, facts, strict=True)
    ]


def _of_text(
    wanted: Wanted, layer: str | None, values: MapArray, score: float, said: Said
) -> Result:
    """The result for a text; of its words there may be fewer than the longest text's."""
    values = values[: len(said.words)] if said.words else values
    return Result(wanted, layer, values, score, None, said.probability, None, said)
