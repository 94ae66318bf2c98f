"""Jobs on generated photos, and jobs that differ from another one in some options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from camcli import Model
from camcli.images.find import find
from camcli.images.preprocess import Preset
from camcli.runs.job import Job
from camcli.runs.options import InputOptions, RunOptions
from tests.support.files import make_photo, manifest
from tests.support.networks import GapNet


def make_job(folder: Path, photos: Mapping[str, tuple[int, int] | None], **changes: Any) -> Job:
    """Write photos into `folder/in` and return a job that explains them into `folder/out`.

    `photos` maps names to (width, height), or to None for a file that is not an image.
    """
    for name, size in photos.items():
        path = make_photo(folder / "in" / name, *(size or (1, 1)))
        if size is None:
            path.write_text("not an image")
    torch.manual_seed(0)
    model = Model(GapNet(), preset=Preset(40, 32), num_classes=5)
    sources = find([str(folder / "in")])
    return changed(Job(sources, model, ("gradcam",), ("pred",), folder / "out"), **changes)


def changed(job: Job, **changes: Any) -> Job:
    """Return a job with other fields, or other fields of its InputOptions and RunOptions."""
    inputs = {f.name: changes.pop(f.name) for f in fields(InputOptions) if f.name in changes}
    options = {f.name: changes.pop(f.name) for f in fields(RunOptions) if f.name in changes}
    return replace(
        job,
        inputs=replace(job.inputs, **inputs),
        options=replace(job.options, **options),
        **changes,
    )


def with_network(job: Job, network: nn.Module) -> Job:
    """Return the job with another network of the same weights."""
    network.load_state_dict(job.model.module.state_dict())
    return replace(job, model=replace(job.model, module=network))


def rows_of(job: Job) -> dict[str, list[dict[str, Any]]]:
    """Return the manifest rows of a job's folder by image."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in manifest(Path(str(job.output))):
        found.setdefault(row["image"], []).append(row)
    return found
