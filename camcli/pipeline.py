"""From paths to files: decode threads -> batches -> engine -> writer threads, in input order.

Decoding and writing run in threads of their own (Pillow and OpenCV let go of the interpreter lock)
while the calling thread runs the network. Each side is at most one batch ahead, so memory is
bounded by the batch size and the largest images. Stages are generators, each pulling from the one
before it.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property, partial
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from camcli import __version__, fusion, localisation, outputs, render, resume
from camcli.allowance import Allowance, is_out_of_memory
from camcli.capture import Window
from camcli.engine import Explanation, explain, needs_survey, pick_methods, surveyed
from camcli.errors import CamcliError, ImageError, one_line
from camcli.images import MAX_PIXELS, STDIN, Box, Crop, Pixels, Source, decode, preprocess
from camcli.localisation import BoxRule
from camcli.methods import METHODS
from camcli.models import Model
from camcli.outputs import Wanted
from camcli.render import Style, Values
from camcli.targets import parse_target
from camcli.tasks import Reader

In = TypeVar("In")
Out = TypeVar("Out")
Row: TypeAlias = dict[str, Any]
Queue: TypeAlias = deque[Future[Out]]


@dataclass(frozen=True)
class Job:
    """Everything that decides a run's results: images, model, what to explain, what to write."""

    sources: Sequence[Source]
    model: Model
    methods: Sequence[str]
    targets: Sequence[str]
    output: Path
    layers: Sequence[str | None] = (None,)
    fuse: str | None = None
    saves: Sequence[str] = ("overlay", "map")
    fit: str = "preset"
    style: Style = field(default_factory=Style)
    boxes: BoxRule = field(default_factory=BoxRule)
    window: Window = field(default_factory=Window)
    batch_size: int = 16
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    region: Box | None = None
    max_pixels: int = MAX_PIXELS
    skip_existing: bool = False
    overwrite: bool = False

    def check(self) -> None:
        """Refuse before any work what no image can change. Raises CamcliError."""
        for target in self.targets:
            parse_target(target, self.model.class_names, self.model.num_classes)
        Reader(self.model.task, regions=None if self.region is None else torch.tensor(self.region))
        fusion.check(self.fuse, pick_methods(self.methods), self.layers)
        if "boxes" in self.saves:
            localisation.check(pick_methods(self.methods))
        outputs.check_names(self.output, self.sources, self.results)
        if not self.overwrite:
            resume.refuse_other(self.output, resume.rows(self.output), self.settings)
        outputs.prepare(self.output)

    @property
    def results(self) -> list[Wanted]:
        """What there is for each image, in the order in which `explain` gives it."""
        return outputs.every_result(self.methods, self.targets, self.layers, self.fuse)

    @cached_property
    def settings(self) -> str:
        """The digest of what all results of a run have in common, and a folder's must."""
        model, record = self.model, _record(self)
        common = ("model", "precision", "layers", "fuse", "region", "fit", "colormap", "alpha")
        weights = model.weights_hash or (model.weights, _state_digest(model))
        known = [record[name] for name in (*common, "window", "stride", "boxes", "box_threshold")]
        return resume.digest([*known, weights, vars(model.preset), model.class_names])

    @cached_property
    def made(self) -> str:
        """The digest of what else decides the bytes written, but for the image itself.

        Not the batch size: one that memory asks for later must not undo what is done.
        """
        record = _record(self)
        versions = {k: v for k, v in record["versions"].items() if k != "python"}
        return resume.digest([versions, self.model.device.type])


@dataclass(frozen=True)
class Loaded:
    """A source, decoded and preprocessed."""

    source: Source
    pixels: Pixels
    input: Tensor
    crop: Crop
    digest: str

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the input."""
        return self.input.shape[2], self.input.shape[1]


@dataclass(frozen=True)
class Failed:
    """A source that could not be explained, and the reason."""

    source: Source
    error: CamcliError


@dataclass(frozen=True)
class Existing:
    """An image whose results an earlier run left whole: their rows."""

    rows: list[Row]


@dataclass(frozen=True)
class Result:
    """One result for one image, on the host."""

    wanted: Wanted
    layer: str | None
    values: Values
    score: float
    class_index: int
    probability: float
    box: Box | None


Explained: TypeAlias = tuple[Loaded, list[Result]] | Failed | Existing
Kept: TypeAlias = dict[Source, list[Row]]


def run(job: Job) -> Generator[list[Row], None, None]:
    """Explain every source; yields the manifest's rows image by image, in input order.

    What fails for one image becomes its rows' error and the others go on; what is wrong with the
    model, method or target raises CamcliError. The manifest and run.json are written at the end,
    also when the caller stops early; where nothing was done, those of an earlier run stay.
    """
    job.check()
    earlier = resume.rows(job.output)
    kept: Kept = {}
    done: set[resume.Key] = set()
    record, counts = _clocked(job), Counter[str]()
    decoding, writing = ThreadPoolExecutor(job.workers), ThreadPoolExecutor(job.workers)
    writes: Queue[list[Row]] = deque()
    with outputs.manifest(job.output) as add:

        def recorded(rows: list[Row]) -> list[Row]:
            counts.update(row["status"] for row in rows)
            done.update(map(resume.key, rows))
            add(rows)
            return rows

        try:
            kept.update(_trusted(job, earlier, decoding) if job.skip_existing else {})
            loaded = read_ahead(decoding, partial(_load, job), _asked(job, kept), job.batch_size)
            explained = _cleared(job, _explained(job, loaded), earlier, kept)
            written = _write_behind(
                writing, partial(_written, job), explained, job.batch_size, writes
            )
            yield from map(recorded, written)
        finally:
            decoding.shutdown(cancel_futures=True)
            writing.shutdown(cancel_futures=True)
            for future in writes:  # after an interruption: written, but not yet asked for
                if not future.cancelled() and not future.exception():
                    recorded(future.result())
            for rows in kept.values():  # of windows that were not come to
                if resume.key(rows[0]) not in done:
                    recorded(rows)
            if counts:
                outputs.write(job.output / outputs.RUN, outputs.to_json(record(counts), indent=2))
    resume.sweep(job.output)


def _trusted(job: Job, earlier: Sequence[Row], executor: ThreadPoolExecutor) -> Kept:
    """Images all of whose results are there, made of the same bytes in the same way; their rows."""
    known: dict[resume.Key, dict[str | None, Row]] = defaultdict(dict)
    for row in earlier:  # a folder's runs have the same layers, in the same order
        if row["status"] != "error":
            known[resume.key(row)][row.get("layer")] = row
    layers = Counter((wanted.method, wanted.target) for wanted in job.results)

    def rows_of(source: Source) -> list[Row] | None:
        found = [known[(source.name.as_posix(), *one)] for one in layers]
        if source.path == STDIN or [*map(len, found)] != [*layers.values()]:
            return None
        rows, digest = [row for one in found for row in one.values()], _digest(job, source)
        if any(row.get("digest") != digest for row in rows):
            return None
        files = (name for one in job.results for name in _files(job, source, one).values())
        return rows if all((job.output / name).is_file() for name in files) else None

    found = zip(job.sources, executor.map(rows_of, job.sources), strict=True)
    return {source: rows for source, rows in found if rows}


def _asked(job: Job, kept: Kept) -> Iterator[Source | Existing]:
    """The sources, with the windows that are wholly done as their rows.

    Where one of a window is to be made, all are read: a batch of another size would give other
    last digits. What is kept of it is not written again.
    """
    for start in range(0, len(job.sources), job.batch_size):
        window = job.sources[start : start + job.batch_size]
        if all(source in kept for source in window):
            yield from (Existing(kept[source]) for source in window)
        else:
            yield from window


def _cleared(
    job: Job, explained: Iterable[Explained], earlier: Sequence[Row], kept: Kept
) -> Iterator[Explained]:
    """Passes on, and before the first result makes room: a run refused leaves what was there."""
    for number, item in enumerate(explained):
        if number == 0 and job.overwrite:
            keep = [resume.key(row) for rows in kept.values() for row in rows]
            resume.clear(job.output, earlier, keep)
        found = item[0].source if isinstance(item, tuple) else None
        yield Existing(kept[found]) if found in kept else item


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
            yield _next_of(waiting)
    while waiting:
        yield _next_of(waiting)


def _next_of(waiting: Queue[Out]) -> Out:
    result = waiting[0].result()  # still in the queue if waiting for it is interrupted
    waiting.popleft()
    return result


def _load(job: Job, source: Source | Existing) -> Loaded | Failed | Existing:
    if isinstance(source, Existing):
        return source
    try:
        digest = _digest(job, source)
        pixels = decode(source.path, job.max_pixels)
        return Loaded(source, pixels, *preprocess(pixels, job.model.preset, job.fit), digest)
    except ImageError as error:
        return Failed(source, error)


def _regions(job: Job, batch: Sequence[Loaded]) -> Tensor | None:
    """The job's region, in pixels of each original, in those of the inputs (N,4)."""
    if job.region is None:
        return None
    return torch.tensor([item.crop.inward(job.region, item.size) for item in batch])


def _digest(job: Job, source: Source) -> str:
    """What a result's row says of how it was made."""
    own = resume.input_digest(source.path, job.made) if source.path != STDIN else ""
    return f"{job.settings}-{own}"


def _explained(job: Job, loaded: Iterable[Loaded | Failed | Existing]) -> Iterator[Explained]:
    """Window by window of as many images as a batch has, so that the batches of a run are always
    the same: within one, images of one shape go together, and all come out in order. Only where
    memory is short a batch is halved, and what follows has no larger ones."""
    model, at_once, stream = job.model, Allowance[Loaded](job.batch_size), iter(loaded)
    while window := list(itertools.islice(stream, job.batch_size)):
        done: dict[Source, Explained] = {}
        for batch in at_once.split(_batches(window)):
            stacked = torch.stack([item.input for item in batch])
            try:
                inputs = stacked.to(model.device, model.dtype, memory_format=torch.channels_last)
                if needs_survey(pick_methods(job.methods), job.layers):
                    model = surveyed(model, (inputs,))
                found = explain(
                    *(model, inputs, job.methods, job.targets, job.layers),
                    window=at_once.of(job.window),
                    fuse=job.fuse,
                    region=_regions(job, batch),
                )
            # Of torch: no memory, an input that the network is too deep for, or of another size.
            except (RuntimeError, AssertionError) as error:
                if at_once.halved(error, batch, _windows_at_once(job)):
                    continue
                done.update((item.source, _failed(item, model, error)) for item in batch)
                continue
            for item, results in zip(batch, _results(found, job.results), strict=True):
                done[item.source] = item, results
        yield from (done[one.source] if isinstance(one, Loaded) else one for one in window)


def _failed(item: Loaded, model: Model, error: Exception) -> Failed:
    reason = one_line(error)
    if is_out_of_memory(error):  # a batch of more would have been halved
        reason = f"out of memory for one image of {item.size[0]}x{item.size[1]}: {reason}"
    return Failed(item.source, ImageError(f"{item.source.path}: {model.name} failed ({reason})"))


def _windows_at_once(job: Job) -> int:
    """How many changed images the methods run at once for each one."""
    rerun = any({"occluded", "masked"} & method.needs for method in pick_methods(job.methods))
    return job.window.batch_size if rerun else 1


def _batches(window: Iterable[Loaded | Failed | Existing]) -> list[list[Loaded]]:
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
    assert shown.classes is not None  # the command line explains classes, never functions
    assert shown.probabilities is not None
    columns = (shown.scores, shown.classes, shown.probabilities)
    boxes = [None] * len(shown.maps) if shown.boxes is None else shown.boxes.tolist()
    facts = zip(*(column.tolist() for column in columns), boxes, strict=True)
    maps = shown.maps.float().contiguous().cpu().numpy()
    return [
        Result(wanted, shown.layer, values, *fact) for values, fact in zip(maps, facts, strict=True)
    ]


def _written(job: Job, item: Explained) -> list[Row]:
    if isinstance(item, Existing):
        return item.rows
    if isinstance(item, Failed):
        facts = {"status": "error", "error": str(item.error), "digest": f"{job.settings}-"}
        return [_row(item.source, one, layer=one.layer, **facts) for one in job.results]
    loaded, results = item
    return [_write_one(job, loaded, result) for result in results]


def _write_one(job: Job, loaded: Loaded, result: Result) -> Row:
    names = job.model.class_names
    facts: Row = {
        "class_index": result.class_index,
        "class_name": names[result.class_index] if names else None,
        "score": result.score,
        "probability": result.probability,
        "layer": result.layer,
        "map_shape": list(result.values.shape),
        "crop": [loaded.crop.x0, loaded.crop.y0, loaded.crop.x1, loaded.crop.y1],
        "box": _box(loaded, result),
        "digest": loaded.digest,
    }
    row = partial(_row, loaded.source, result.wanted)
    if not np.isfinite(result.values).all() or not np.isfinite(result.score):
        method = result.wanted.method
        error = f"{loaded.source.path}: the {method} map or its score holds NaN or infinity"
        return row(**facts | {"score": None, "probability": None}, status="error", error=error)
    files = _files(job, loaded.source, result.wanted)
    boxes = _boxes(job, loaded, result) if "boxes" in files else []
    explained = [facts["box"]] if facts["box"] else []
    try:
        for what, file in files.items():
            place = outputs.within(job.output, file)
            frames = boxes if what == "boxes" else explained
            outputs.write(place, _contents(job, loaded, result, what, frames))
    except CamcliError as error:
        return row(**facts, status="error", error=f"{loaded.source.path}: {error}")
    return row(
        **facts,
        map_min=float(result.values.min()),
        map_max=float(result.values.max()),
        map=files["map"].as_posix() if "map" in files else None,
        overlay=files["overlay"].as_posix() if "overlay" in files else None,
        boxes=boxes if "boxes" in files else None,
        status="ok" if result.values.any() else "empty",
    )


def _box(loaded: Loaded, result: Result) -> list[int] | None:
    """The box that was explained, in pixels of the original; None where there is none."""
    if result.box is None or not any(result.box):
        return None
    return [round(side) for side in loaded.crop.outward(result.box, loaded.size)]


def _boxes(job: Job, loaded: Loaded, result: Result) -> list[list[int]]:
    """The boxes that the map gives, in pixels of the original."""
    values = render.placed(result.values, loaded.crop, loaded.pixels.shape[:2])
    return [[*box] for box in job.boxes.of(values, result.wanted.method)]


def _files(job: Job, source: Source, wanted: Wanted) -> dict[str, Path]:
    return {what: outputs.name_of(source, wanted, what) for what in job.saves}


def _contents(
    job: Job, loaded: Loaded, result: Result, what: str, frames: Sequence[list[int]]
) -> bytes:
    if what == "map":
        buffer = BytesIO()
        np.save(buffer, result.values)
        return buffer.getvalue()
    signed = METHODS[result.wanted.method].signed
    size = (loaded.pixels.shape[0], loaded.pixels.shape[1])
    if what == "heatmap":
        return render.png(render.heatmap(result.values, loaded.crop, size, job.style, signed))
    draw = render.panel if what == "panel" else render.overlay
    picture = draw(loaded.pixels, result.values, loaded.crop, job.style, signed)
    for box in frames:
        # A panel ends with the overlay.
        render.frame(picture[:, picture.shape[1] - size[1] :], box)
    return render.png(picture)


_FIELDS = (
    *("image", "method", "target", "class_index", "class_name", "score", "probability", "layer"),
    *("map", "overlay", "map_shape", "map_min", "map_max", "crop", "box", "boxes"),
    *("status", "error", "digest"),
)


def _row(source: Source, wanted: Wanted, **facts: Any) -> Row:
    """A manifest row: the same fields in the same order, null where there is nothing to say."""
    explained = {"method": wanted.method, "target": wanted.target}
    known = {"image": source.name.as_posix(), **explained, **facts}
    return {field: known.get(field) for field in _FIELDS}


def _state_digest(model: Model) -> str:
    """A digest of weights that came from no file; random ones follow from their seed."""
    if model.weights.startswith("none"):
        return ""
    found = hashlib.sha256()
    for name, tensor in model.module.state_dict().items():
        found.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    return found.hexdigest()


def _clocked(job: Job) -> Callable[[Counter[str]], Row]:
    """The record of a run that starts now, for the counts that it ends with."""
    started, clock = datetime.now(timezone.utc), time.monotonic()
    return lambda counts: {
        **_record(job),
        "counts": {"images": len(job.sources), **dict(sorted(counts.items()))},
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - clock, 3),
    }


def _record(job: Job) -> Row:
    model = job.model
    packages = ("torch", "torchvision", "numpy", "pillow", "opencv-python")
    return {
        "model": model.name,
        "weights": model.weights,
        "weights_hash": model.weights_hash,
        "precision": str(model.dtype).removeprefix("torch."),
        "layers": [layer or "auto" for layer in job.layers],
        "fuse": job.fuse,
        "methods": list(job.methods),
        "targets": list(job.targets),
        "fit": job.fit,
        "saves": list(job.saves),
        "colormap": job.style.colormap,
        "alpha": job.style.alpha,
        "window": job.window.size,
        "stride": job.window.stride,
        "boxes": job.boxes.which,
        "box_threshold": job.boxes.threshold,
        "region": job.region,
        "batch_size": job.batch_size,
        "device": str(model.device),
        "versions": {
            "camcli": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        },
    }
