"""From paths to files: decode threads -> batches -> engine -> writer threads, in input order.

Decoding and writing run in threads of their own (Pillow and OpenCV let go of the interpreter lock)
while the calling thread runs the network. Each side is at most one batch ahead, so memory is
bounded by the batch size and the largest images. Stages are generators, each pulling from the one
before it.
"""

from __future__ import annotations

import itertools
import os
import platform
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from camcli import __version__, fusion, outputs, render
from camcli.capture import Window
from camcli.engine import Explanation, explain, needs_survey, pick_methods, surveyed
from camcli.errors import CamcliError, ImageError, one_line
from camcli.images import Box, Crop, Pixels, Source, decode, preprocess
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
    window: Window = field(default_factory=Window)
    batch_size: int = 16
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    region: Box | None = None

    def check(self) -> None:
        """Refuse before any work what no image can change. Raises CamcliError."""
        for target in self.targets:
            parse_target(target, self.model.class_names, self.model.num_classes)
        Reader(self.model.task, regions=None if self.region is None else torch.tensor(self.region))
        fusion.check(self.fuse, pick_methods(self.methods), self.layers)
        outputs.check_names(self.output, self.sources, self.results)
        outputs.prepare(self.output)

    @property
    def results(self) -> list[Wanted]:
        """What there is for each image, in the order in which `explain` gives it."""
        at_layers = (self.fuse,) if self.fuse else self.layers
        return [
            Wanted(method.name, target, layer)
            for method in pick_methods(self.methods)
            for target in self.targets
            for layer in (at_layers if method.at_layer else (None,))
        ]


@dataclass(frozen=True)
class Loaded:
    """A source, decoded and preprocessed, or the reason why not."""

    source: Source
    pixels: Pixels
    input: Tensor
    crop: Crop

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
class Result:
    """One result for one image, on the host."""

    wanted: Wanted
    layer: str | None
    values: Values
    score: float
    class_index: int
    probability: float
    box: Box | None


def run(job: Job) -> Iterator[list[Row]]:
    """Explain every source; yields the manifest's rows image by image, in input order.

    What fails for one image becomes its rows' error and the others go on; what is wrong with the
    model, method or target raises CamcliError. The manifest and run.json are written at the end,
    also when the caller stops early; where nothing was done, those of an earlier run stay.
    """
    job.check()
    started, clock, counts = datetime.now(timezone.utc), time.monotonic(), Counter[str]()
    decoding, writing = ThreadPoolExecutor(job.workers), ThreadPoolExecutor(job.workers)
    writes: Queue[list[Row]] = deque()
    with outputs.manifest(job.output) as manifest:

        def recorded(rows: list[Row]) -> list[Row]:
            counts.update(row["status"] for row in rows)
            manifest.writelines(map(outputs.to_json, rows))
            return rows

        try:
            loaded = _read_ahead(decoding, partial(_load, job), job.sources, job.batch_size)
            explained = _explained(job, loaded)
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
            record = {
                **_record(job),
                "counts": {"images": len(job.sources), **dict(sorted(counts.items()))},
                "started": started.isoformat(timespec="seconds"),
                "seconds": round(time.monotonic() - clock, 3),
            }
            if counts:
                outputs.write(job.output / outputs.RUN, outputs.to_json(record, indent=2))


def _read_ahead(
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


def _load(job: Job, source: Source) -> Loaded | Failed:
    try:
        pixels = decode(source.path)
        return Loaded(source, pixels, *preprocess(pixels, job.model.preset, job.fit))
    except ImageError as error:
        return Failed(source, error)


def _explained(
    job: Job, loaded: Iterable[Loaded | Failed]
) -> Iterator[tuple[Loaded, list[Result]] | Failed]:
    model = job.model
    for batch in _batches(loaded, job.batch_size):
        if isinstance(batch, Failed):
            yield batch
            continue
        stacked = torch.stack([item.input for item in batch])
        inputs = stacked.to(model.device, memory_format=torch.channels_last)
        try:
            if needs_survey(pick_methods(job.methods), job.layers):
                model = surveyed(model, (inputs,))
            found = explain(
                *(model, inputs, job.methods, job.targets, job.layers),
                window=job.window,
                fuse=job.fuse,
                region=_regions(job, batch),
            )
        except RuntimeError as error:  # of torch: an input too small for the network, no memory
            for item in batch:
                reason = f"{item.source.path}: {model.name} failed ({one_line(error)})"
                yield Failed(item.source, ImageError(reason))
            continue
        yield from zip(batch, _results(found, job.results), strict=True)


def _regions(job: Job, batch: Sequence[Loaded]) -> Tensor | None:
    """The job's region, in pixels of each original, in those of the inputs (N,4)."""
    if job.region is None:
        return None
    return torch.tensor([item.crop.inward(job.region, item.size) for item in batch])


def _batches(loaded: Iterable[Loaded | Failed], size: int) -> Iterator[list[Loaded] | Failed]:
    """Runs of images of one shape, at most `size` long; failures in their places between them."""

    def kind(item: Loaded | Failed) -> Any:
        return item.input.shape if isinstance(item, Loaded) else None

    for _, same in itertools.groupby(loaded, kind):
        while chunk := list(itertools.islice(same, size)):
            if isinstance(chunk[0], Failed):
                yield from (item for item in chunk if isinstance(item, Failed))
            else:
                yield [item for item in chunk if isinstance(item, Loaded)]


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


def _written(job: Job, item: tuple[Loaded, list[Result]] | Failed) -> list[Row]:
    if isinstance(item, Failed):
        error = str(item.error)
        return [
            _row(item.source, wanted, layer=wanted.layer, status="error", error=error)
            for wanted in job.results
        ]
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
    }
    row = partial(_row, loaded.source, result.wanted)
    if not np.isfinite(result.values).all() or not np.isfinite(result.score):
        method = result.wanted.method
        error = f"{loaded.source.path}: the {method} map or its score holds NaN or infinity"
        return row(**facts | {"score": None, "probability": None}, status="error", error=error)
    files = {what: outputs.name_of(loaded.source, result.wanted, what) for what in job.saves}
    try:
        for what, file in files.items():
            outputs.write(job.output / file, _contents(job, loaded, result, what))
    except CamcliError as error:
        return row(**facts, status="error", error=f"{loaded.source.path}: {error}")
    return row(
        **facts,
        map_min=float(result.values.min()),
        map_max=float(result.values.max()),
        map=files["map"].as_posix() if "map" in files else None,
        overlay=files["overlay"].as_posix() if "overlay" in files else None,
        status="ok" if result.values.any() else "empty",
    )


def _box(loaded: Loaded, result: Result) -> list[int] | None:
    """The box that was explained, in pixels of the original; None where there is none."""
    if result.box is None or not any(result.box):
        return None
    return [round(side) for side in loaded.crop.outward(result.box, loaded.size)]


def _contents(job: Job, loaded: Loaded, result: Result, what: str) -> bytes:
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
    if (box := _box(loaded, result)) is not None:
        # A panel ends with the overlay.
        render.frame(picture[:, picture.shape[1] - size[1] :], box)
    return render.png(picture)


_FIELDS = (
    *("image", "method", "target", "class_index", "class_name", "score", "probability", "layer"),
    *("map", "overlay", "map_shape", "map_min", "map_max", "crop", "box", "status", "error"),
)


def _row(source: Source, wanted: Wanted, **facts: Any) -> Row:
    """A manifest row: the same fields in the same order, null where there is nothing to say."""
    explained = {"method": wanted.method, "target": wanted.target}
    known = {"image": source.name.as_posix(), **explained, **facts}
    return {field: known.get(field) for field in _FIELDS}


def _record(job: Job) -> Row:
    model = job.model
    packages = ("torch", "torchvision", "numpy", "pillow", "opencv-python")
    return {
        "model": model.name,
        "weights": model.weights,
        "weights_hash": model.weights_hash,
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
        "region": job.region,
        "batch_size": job.batch_size,
        "device": str(model.device),
        "versions": {
            "camcli": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        },
    }
