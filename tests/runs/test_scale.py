"""What is drawn in full colour: `--scale image`, `run` and `probability`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from camcli.errors import CamcliError, CamcliWarning
from camcli.images.decode import STDIN, decode
from camcli.images.geometry import Pixels
from camcli.images.source import Source
from camcli.render.draw import overlay
from camcli.runs import pipeline
from camcli.runs.grids import crop_of
from camcli.runs.job import Job
from camcli.runs.manifest import Row
from camcli.runs.shards import Shard
from tests.support.command import TINY, Run, refused
from tests.support.files import files, manifest
from tests.support.jobs import changed, make_job

PHOTOS = {"a.png": (60, 40), "b.png": (40, 40), "sub/c.png": (50, 70)}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(
        tmp_path,
        PHOTOS,
        methods=("gradcam", "cam"),
        saves=("overlay", "map", "panel"),
        batch_size=1,
    )


def pixels(job: Job, row: Row) -> Pixels:
    with Image.open(job.output / row["overlay"]) as picture:
        return np.asarray(picture)


def expected(
    job: Job, row: Row, top: float | None
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    photo = decode(job.output.parent / "in" / row["image"])
    values, crop = np.load(job.output / row["map"]), crop_of(row)
    assert crop is not None
    return overlay(photo, values, crop, job.style, row["method"] == "cam", top)


def test_by_default_each_map_has_its_own_scale(job: Job) -> None:
    list(pipeline.run(job))
    for row in manifest(job.output):
        assert row["top"] is None
        assert (pixels(job, row) == expected(job, row, None)).all()


def test_an_unsure_image_is_pale(job: Job) -> None:
    job = replace(job, scale="probability")
    list(pipeline.run(job))
    for row in manifest(job.output):
        own = max(row["map_max"], -row["map_min"] if row["method"] == "cam" else 0)
        assert row["top"] == pytest.approx(own / row["probability"], rel=1e-5)
        assert (pixels(job, row) == expected(job, row, row["top"])).all()


def test_a_target_without_a_probability_fails_in_one_line(job: Job) -> None:
    model = replace(job.model, activation="none")
    job = replace(job, scale="probability", model=model, targets=("1",))
    for row in (row for rows in pipeline.run(job) for row in rows):
        assert row["status"] == "error"
        assert "the target has no probability" in row["error"]
        assert "\n" not in row["error"]


def test_a_run_has_one_scale_for_each_method(job: Job) -> None:
    job = replace(job, scale="run")
    list(pipeline.run(job))
    rows = manifest(job.output)
    for method in job.methods:
        own = [row for row in rows if row["method"] == method]
        low = [-row["map_min"] if method == "cam" else 0 for row in own]
        top = max(*(row["map_max"] for row in own), *low)
        assert [row["top"] for row in own] == pytest.approx([top] * 3)
        for row in own:
            away = np.abs(pixels(job, row).astype(int) - expected(job, row, top))
            assert away.max() <= 2, "cells are rounded in the manifest"


def test_a_run_that_goes_on_has_one_scale_again(job: Job, tmp_path: Path) -> None:
    """The pictures of earlier images are drawn again if a later one is hotter."""
    job = replace(job, scale="run")
    list(pipeline.run(replace(job, sources=job.sources[:1])))
    list(pipeline.run(changed(job, skip_existing=True)))
    fresh = replace(job, output=tmp_path / "fresh")
    list(pipeline.run(fresh))
    names = {name for name in files(fresh.output) if name.endswith((".png", ".jsonl"))}
    again = files(job.output)
    assert {name: again[name] for name in names} == {n: files(fresh.output)[n] for n in names}
    before = files(job.output)
    list(pipeline.run(changed(job, skip_existing=True)))
    assert before.keys() == files(job.output).keys()
    assert before["manifest.jsonl"] == files(job.output)["manifest.jsonl"]


def test_pictures_of_other_images_keep_their_scale_with_a_warning(job: Job) -> None:
    job = replace(job, scale="run", methods=("gradcam",))
    scales = []
    for source in job.sources:
        alone = replace(job, sources=[source])
        try:
            list(pipeline.run(alone))
        except CamcliWarning as warning:
            scales.append(str(warning))
    assert scales
    assert "keep another scale than the run's: they are of images that" in scales[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"saves": ("overlay",)}, "needs the maps: add map to --save"),
        ({"methods": ("guided",)}, "'guided' gives images"),
        ({"shard": Shard(1, 2, 3, "x")}, "leave out --shard"),
        ({"executor": {"name": "ray"}}, "--executor ray cannot"),
        ({"sources": [Source(STDIN, "stdin")]}, "standard input"),
    ],
)
def test_what_cannot_work_is_refused(change: dict[str, object], reason: str, job: Job) -> None:
    with pytest.raises(CamcliError, match=reason):
        next(pipeline.run(replace(job, scale="run", **change)))  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["--json", "--preview"])
def test_rows_are_not_shown_before_the_scale_is_known(option: str, run: Run, job: Job) -> None:
    given = job.output.parent / "in"
    found = run("explain", given, *TINY, "--scale", "run", option, "--output", job.output)
    assert "come before the scale is known" in refused(found)
