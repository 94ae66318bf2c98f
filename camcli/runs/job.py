"""A job: everything that decides a run's results, and the pieces that its stages hand on."""

from __future__ import annotations

import copy
import hashlib
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from camcli import __version__
from camcli.capture.readers import Reader
from camcli.capture.targets import parse_target
from camcli.capture.windows import Window
from camcli.engine.explain import Said, pick_methods
from camcli.errors import CamcliError
from camcli.images.decode import MAX_PIXELS
from camcli.images.find import Source
from camcli.images.geometry import Box, Crop, MapArray, Pixels
from camcli.images.store import AnyPath
from camcli.methods import fusion
from camcli.models.load import Model
from camcli.render.boxes import BoxRule, check_boxes
from camcli.render.draw import Style
from camcli.runs import resume
from camcli.runs.files import mark, prepare
from camcli.runs.manifest import record_name
from camcli.runs.names import Wanted, check_names, every_result
from camcli.runs.shards import Shard

if TYPE_CHECKING:
    from camcli.engine.language.prompts import Prompt

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """Everything that decides a run's results: images, model, what to explain, what to write.

    With a `prompt` it is what a language model says of the images; `targets` are then the prompt's.
    """

    sources: Sequence[Source]
    model: Model
    methods: Sequence[str]
    targets: Sequence[str]
    output: AnyPath
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
    prompt: Prompt | None = None
    shard: Shard | None = None
    engine: Mapping[str, Any] = field(default_factory=lambda: {"name": "local"})
    """What the record of the run says of where it ran."""
    owner: str = field(default_factory=mark)
    """Whose unfinished files are, for who clears them up."""

    def check(self) -> None:
        """Refuse before any work what no image can change. Raises CamcliError."""
        for target in () if self.prompt else self.targets:
            parse_target(target, self.model.class_names, self.model.num_classes)
        Reader(self.model.task, regions=None if self.region is None else torch.tensor(self.region))
        fusion.check_fusion(self.fuse, pick_methods(self.methods), self.layers)
        if "boxes" in self.saves:
            check_boxes(pick_methods(self.methods))
        check_names(self.output, self.sources, self.results)
        if not self.overwrite:
            resume.refuse_other(self.output, self.earlier(), self.settings, record_of(self))
        prepare(self.output)

    def earlier(self) -> Iterator[Row]:
        """The rows that runs before this one left in the output folder."""
        return resume.rows(self.output, self.part)

    def record(self, name: str) -> AnyPath:
        """Where this run's MANIFEST or RUN goes."""
        return self.output / record_name(name, self.part)

    @property
    def part(self) -> str | None:
        """What the records of a shard are called."""
        return None if self.shard is None else self.shard.name

    def of(self, sources: Sequence[Source]) -> Job:
        """The same for other sources; the digests, which do not hang on them, are kept."""
        job = copy.copy(self)
        object.__setattr__(job, "sources", sources)
        return job

    @property
    def results(self) -> list[Wanted]:
        """What there is for each image, in the order in which `explain` gives it."""
        return every_result(self.methods, self.targets, self.layers, self.fuse)

    @cached_property
    def settings(self) -> str:
        """The digest of what all results of a run have in common, and a folder's must."""
        model, record = self.model, record_of(self)
        weights = model.weights_hash or (model.weights, _state_digest(model))
        known = [record[name] for name in resume.SETTINGS]
        texts = [record["prompt"]] if self.prompt else []
        return resume.digest([*known, weights, vars(model.preset), model.class_names, *texts])

    @cached_property
    def made(self) -> str:
        """The digest of what else decides the bytes written, but for the image itself."""
        return resume.made(record_of(self))


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
    """One result for one image, on the host.

    The values for the words of a text are (W,h,w). Of a text there is no class but what was `said`.
    """

    wanted: Wanted
    layer: str | None
    values: MapArray
    score: float
    class_index: int | None
    probability: float
    box: Box | None
    said: Said | None = None


Explained: TypeAlias = tuple[Loaded, list[Result]] | Failed | Existing


def clocked(job: Job) -> Callable[[Counter[str]], Row]:
    """The record of a run that starts now, for the counts that it ends with."""
    started, clock = datetime.now(timezone.utc), time.monotonic()
    return lambda counts: {
        **record_of(job),
        "counts": {"images": len(job.sources), **dict(sorted(counts.items()))},
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - clock, 3),
    }


def record_of(job: Job) -> Row:
    model = job.model
    packages = ["torch", "torchvision", "numpy", "pillow", "opencv-python"]
    packages += ["transformers", "tokenizers"] if job.prompt else []
    return {
        "model": model.name,
        "weights": model.weights,
        "weights_hash": model.weights_hash,
        "precision": str(model.dtype).removeprefix("torch."),
        "layers": [layer or "auto" for layer in job.layers],
        "fuse": job.fuse,
        **({"prompt": job.prompt.settings} if job.prompt else {}),
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
        "device": job.engine.get("device") or str(model.device),
        "engine": dict(job.engine),
        "shard": job.shard and asdict(job.shard),
        "versions": {
            "camcli": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        },
    }


def _state_digest(model: Model) -> str:
    """A digest of weights that came from no file; random ones follow from their seed."""
    if model.weights.startswith("none"):
        return ""
    found = hashlib.sha256()
    for name, tensor in model.module.state_dict().items():
        found.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    return found.hexdigest()
