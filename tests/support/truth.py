"""Jobs on photos with true classes, and a forward pass to compare with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from camcli import Model
from camcli.images.find import find
from camcli.images.preprocess import Preset
from camcli.runs import pipeline
from camcli.runs.filters import read_filters
from camcli.runs.items import Loaded
from camcli.runs.job import Job
from camcli.runs.options import TruthOptions
from camcli.runs.truth import read_truth
from tests.support.files import make_photo, manifest
from tests.support.jobs import changed
from tests.support.networks import GapNet

NAMES = ("ant", "bee", "crane", "dog", "elk", "fox", "crane", "gnu", "hen")
RANKS = (0, 1, 4, 5, 8)
"""The ranks of the photos' true classes among the nine, from 0."""
ANTS = {f"{number}.jpg": "ant" for number in range(len(RANKS))}


def nine_classes() -> Model:
    """Return a network of nine classes, of which two have one name."""
    torch.manual_seed(0)
    return Model(GapNet(9), preset=Preset(40, 32), class_names=NAMES, num_classes=9)


def make_photos(folder: Path) -> list[Path]:
    """Write a photo for each of RANKS into `folder/in`."""
    return [make_photo(folder / "in" / f"{i}.jpg", 50 + 3 * i, 40) for i in range(len(RANKS))]


def job_on(folder: Path, model: Model, truth: str | None = None, **changes: Any) -> Job:
    """Return a job on the photos in `folder/in`, with the other options of `--truth`."""
    options = TruthOptions(truth, changes.pop("class_map", None), changes.pop("only", ()))
    sources, known = find([str(folder / "in")]), read_truth(options, model)
    job = Job(sources, model, ("gradcam",), ("pred",), folder / "out", saves=("map",))
    job = replace(job, truth=known, only=read_filters(options.only, model, known))
    return changed(job, **changes)


def shares_of(folder: Path, model: Model) -> dict[str, torch.Tensor]:
    """Return each image's probabilities (K,) by a forward pass of the network alone."""
    job, found = job_on(folder, model), {}
    for source in job.sources:
        loaded = pipeline.load_image(job, source)
        assert isinstance(loaded, Loaded)
        with torch.no_grad():
            found[source.image] = model.module(loaded.input[None]).softmax(1)[0]
    return found


def classes_by_rank(shares: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Return for each image the class of its rank in RANKS."""
    ranked = [shares[image].argsort(descending=True) for image in sorted(shares)]
    pairs = zip(sorted(shares), ranked, RANKS, strict=True)
    return {image: int(classes[rank]) for image, classes, rank in pairs}


def write_csv(folder: Path, column: str, labels: Mapping[str, object]) -> str:
    file = folder / "truth.csv"
    lines = (f"{image},{label}" for image, label in labels.items())
    file.write_text("\n".join([f"image,{column}", *lines]))
    return f"csv:{file}"


def rows_of(job: Job) -> dict[str, dict[str, Any]]:
    list(pipeline.run(job))
    return {row["image"]: row for row in manifest(Path(str(job.output)))}


def record_in(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return record
