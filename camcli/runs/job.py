"""A job: all settings of a run's results."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import Any

import torch

from camcli import __version__
from camcli.capture.parted import PartedTarget
from camcli.capture.readers import Reader
from camcli.capture.target_parser import parse_target
from camcli.capture.targets import Target, is_true
from camcli.capture.windows import Window
from camcli.engine.explain import pick_methods
from camcli.errors import OutputError
from camcli.images.decode import STDIN
from camcli.images.geometry import Box
from camcli.images.source import Source
from camcli.images.store import AnyPath
from camcli.methods import fusion
from camcli.methods.backward import PLAIN, check_backward
from camcli.models.model import Model
from camcli.render.boxes import BoxRule, check_boxes
from camcli.render.encode import package_of
from camcli.render.style import Style
from camcli.runs import resume
from camcli.runs.class_map import Label
from camcli.runs.files import prepare, process_mark
from camcli.runs.filters import Filter
from camcli.runs.manifest import Row, record_name
from camcli.runs.names import Wanted, check_results, every_result, unique_parts
from camcli.runs.options import InputOptions, RunOptions
from camcli.runs.outputs import OUTPUTS
from camcli.runs.predictions import Prediction
from camcli.runs.references import contents_of
from camcli.runs.shards import Shard
from camcli.runs.truth import NO_LABEL, Truth
from camcli.speed import cached_property


@dataclass(frozen=True)
class Job:
    """All settings of a run's results: images, model, methods, targets, layers and files.

    `saves` are names in OUTPUTS, `scale` is one of SCALES, `picture_format` one of FORMATS,
    `layout` one of LAYOUTS, and `save_to` one of PLACES. `executor` describes the executor for
    run.json. `owner` marks the run's unfinished files.
    """

    sources: Sequence[Source]
    model: Model
    methods: Sequence[str]
    targets: Sequence[str | Target]
    output: AnyPath
    layers: Sequence[str | None] = (None,)
    fuse: str | None = None
    backward_rule: str = PLAIN
    region: Box | None = None
    saves: Sequence[str] = ("overlay", "map")
    style: Style = field(default_factory=Style)
    scale: str = "image"
    picture_format: str = "png"
    layout: str = "flat"
    save_to: str = "files"
    boxes: BoxRule = field(default_factory=BoxRule)
    window: Window = field(default_factory=Window)
    truth: Truth | None = None
    only: Sequence[Filter] = ()
    inputs: InputOptions = field(default_factory=InputOptions)
    options: RunOptions = field(default_factory=RunOptions)
    shard: Shard | None = None
    executor: Mapping[str, Any] = field(default_factory=lambda: {"name": "local"})
    owner: str = field(default_factory=process_mark)

    def check(self) -> None:
        """Raise CamcliError, before any work, for settings that would fail for every image."""
        _ = self.parsed
        Reader(self.model.task, regions=None if self.region is None else torch.tensor(self.region))
        fusion.check_fusion(self.fuse, pick_methods(self.methods), self.layers)
        check_backward(self.backward_rule, pick_methods(self.methods))
        if any(OUTPUTS[name].boxes for name in self.saves):
            check_boxes(pick_methods(self.methods))
        check_results(self.possible_results, self.naming)
        if (self.layout, self.save_to) == ("hashed", "tar"):
            raise OutputError("--layout hashed is for files: leave it out with --save-to tar")
        if self.truth:
            self.truth.check(self.sources, is_part=self.shard is not None)
        prepare(self.output)

    def record(self, name: str) -> AnyPath:
        """Return the place of this run's MANIFEST or RUN."""
        return self.output / record_name(name, self.part)

    @property
    def naming(self) -> str:
        """How the names of its files begin, one of NAMINGS."""
        return "tar" if self.save_to == "tar" else self.layout

    @property
    def part(self) -> str | None:
        """The name of the records of a shard."""
        return None if self.shard is None else self.shard.name

    def with_sources(self, sources: Sequence[Source]) -> Job:
        """Return the job for other sources. It shares the digests, which depend on no source."""
        job = replace(self, sources=sources)
        vars(job).update(settings=self.settings, environment=self.environment)
        return job

    @cached_property
    def parsed(self) -> tuple[Target, ...]:
        """The targets as Target objects. Raises TargetError."""
        names, count = self.model.class_names, self.model.num_classes
        truth = self.truth is not None
        return tuple(parse_target(target, names, count, truth=truth) for target in self.targets)

    @property
    def results(self) -> list[Wanted]:
        """The results for each image, in the order in which `explain` returns them."""
        specs = [target.spec for target in self.parsed]
        return every_result(self.methods, specs, self.layers, self.fuse)

    @property
    def possible_results(self) -> list[Wanted]:
        """The results that an image may have, among them all parts of targets such as `p>T`.

        Raises TargetError for a target `p>T` if the number of classes is unknown.
        """
        of_parts = (
            wanted._replace(target=name)
            for wanted in self.results
            if wanted.target in self._parted
            for name in self._parted[wanted.target].possible_names(self._classes)
        )
        return [*self.results, *of_parts]

    def result_of_part(self, wanted: Wanted, part: int, class_index: int) -> Wanted:
        """Return the result of one part of a target, which has the part in its name."""
        name = self._parted[wanted.target].part_name(part, self._classes[class_index])
        return wanted._replace(target=name)

    @cached_property
    def _parted(self) -> dict[str, PartedTarget]:
        """The targets with several parts, by their names."""
        return {one.spec: one for one in self.parsed if isinstance(one, PartedTarget)}

    @cached_property
    def _classes(self) -> list[str]:
        """The class names, or the indices of classes without names."""
        count = self.model.num_classes or 0
        return unique_parts(self.model.class_names or [*map(str, range(count))])

    def saves_of(self, wanted: Wanted) -> list[str]:
        """Return the kinds of files that a result has. A result with several maps has no boxes."""
        several = {target.spec for target in self.parsed if target.several}
        return [
            name for name in self.saves if not (OUTPUTS[name].boxes and wanted.target in several)
        ]

    @property
    def draws(self) -> bool:
        """Whether the job writes pictures, for which it needs the pixels of the originals."""
        return any(OUTPUTS[name].picture for name in self.saves)

    @property
    def prompt(self) -> Mapping[str, Any] | None:
        """The settings of the texts of the targets or of the classes, for run.json."""
        of_targets = next((target.record for target in self.parsed if target.record), None)
        return of_targets or self.model.prompt

    @property
    def needs_truth(self) -> bool:
        """Whether an image without a true class fails."""
        return any(map(is_true, self.parsed)) or any(one.needs_truth for one in self.only)

    def selects(self, found: Prediction) -> bool:
        """Return whether to explain an image, also one without a prediction."""
        return found.predicted_index is None or all(one(found) for one in self.only)

    def label(self, source: Source) -> Label:
        """Return the true label of an image."""
        return self.truth.label(source) if self.truth else NO_LABEL

    @cached_property
    def settings(self) -> str:
        """The digest of the settings that all results in an output folder share."""
        model, record = self.model, record_of(self)
        weights = model.weights_hash or (model.weights, _state_digest(model))
        known = [record[name] for name in resume.SETTINGS]
        more = [record[name] for name, value in resume.LATER.items() if record[name] != value]
        more += [record[name] for name in ("prompt", "references") if name in record]
        more += [self.truth.content] if self.truth and self.truth.class_map else []
        return resume.digest([*known, weights, vars(model.preset), model.class_names, *more])

    @cached_property
    def environment(self) -> str:
        """The digest of versions and device, which also decide the bytes written."""
        return resume.environment_digest(record_of(self))

    def digest_of(self, path: AnyPath) -> str:
        """Return the digest of the results for an image: of the settings, and of its bytes."""
        own = resume.input_digest(path, self.environment) if path != STDIN else ""
        return f"{self.settings}-{own}"


def record_of(job: Job) -> Row:
    """Return a job's record for run.json: parameters, versions, device and weights' hash."""
    model, references = job.model, contents_of(job.parsed)
    encoder = package_of(job.picture_format)
    packages = ["torch", "torchvision", "numpy", "pillow", "opencv-python"]
    packages += [encoder] if encoder not in packages else []
    packages += ["transformers", "tokenizers"] if job.prompt else []
    return {
        "model": model.name,
        "weights": model.weights,
        "weights_hash": model.weights_hash,
        "activation": model.activation,
        "precision": str(model.dtype).removeprefix("torch."),
        "preprocessing": {"from": model.preset_from, **asdict(model.preset)},
        "layers": [layer or "auto" for layer in job.layers],
        "fuse": job.fuse,
        "backward": job.backward_rule,
        **({"prompt": dict(job.prompt)} if job.prompt else {}),
        **({"references": references} if references else {}),
        "methods": list(job.methods),
        "targets": [target.written for target in job.parsed],
        "fit": job.inputs.fit,
        "frame": job.inputs.frame or 1,
        "window_level": job.inputs.window_level,
        "saves": list(job.saves),
        "colormap": job.style.colormap,
        "alpha": job.style.opacity,
        "blend": job.style.blend,
        "scale": job.scale,
        "format": job.picture_format,
        "layout": job.layout,
        "save_to": job.save_to,
        "encoder": f"{encoder} {version(encoder)}",
        "window": job.window.size,
        "stride": job.window.stride,
        "boxes": job.boxes.which,
        "box_threshold": job.boxes.threshold,
        "region": job.region,
        "truth": job.truth and job.truth.spec,
        "class_map": job.truth and job.truth.class_map,
        "only": [one.spec for one in job.only] or None,
        "batch_size": job.inputs.batch_size,
        "device": job.executor.get("device") or str(model.device),
        "executor": dict(job.executor),
        "shard": job.shard and asdict(job.shard),
        "versions": {
            "camcli": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        },
    }


def _state_digest(model: Model) -> str:
    """Return a digest of weights that came from no file. Random ones follow from their seed."""
    if model.weights.startswith("none"):
        return ""
    found = hashlib.sha256()
    for name, tensor in model.module.state_dict().items():
        found.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    return found.hexdigest()
