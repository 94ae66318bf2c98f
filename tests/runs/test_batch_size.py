"""Batches and windows are halved where memory is too short."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from camcli.capture.windows import Window
from camcli.errors import CamcliWarning
from camcli.runs import pipeline
from camcli.runs.job import Job
from tests.support.files import manifest
from tests.support.jobs import changed, make_job, with_network
from tests.support.networks import OUT_OF_MEMORY, LimitedMemory


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Seven photos of two shapes, in batches of four."""
    photos = {f"{i}.jpg": (60 + 10 * (i % 2), 50) for i in range(7)}
    return make_job(tmp_path, photos, batch_size=4, workers=2)


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_a_batch_is_halved_when_memory_runs_out(error: Exception, job: Job, tmp_path: Path) -> None:
    net = LimitedMemory(1, error)
    list(pipeline.run(job))
    short = replace(with_network(job, net), output=tmp_path / "short")
    with pytest.warns(CamcliWarning) as warned:
        list(pipeline.run(short))
    assert [str(one.message) for one in warned if one.category is CamcliWarning] == [
        "out of memory with 4 images at once: going on with 2",
        "out of memory with 2 images at once: going on with 1",
    ]
    assert [size for size in net.sizes if size > 1] == [4, 2], (
        "a size that fails is not tried again"
    )
    for row, other in zip(manifest(short.output), manifest(job.output), strict=True):
        assert row["status"] == "ok"
        assert row["image"] == other["image"]
        values, expected = (np.load(o.output / row["map"]) for o in (short, job))
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)


def test_batches_of_windows_are_halved(job: Job) -> None:
    net = LimitedMemory(3, OUT_OF_MEMORY[0])
    job = changed(with_network(job, net), sources=job.sources[:1], methods=("occlusion",))
    job = changed(job, window=Window(8, 4), batch_size=16)
    with pytest.warns(CamcliWarning, match="images at once"):
        assert [row["status"] for rows in pipeline.run(job) for row in rows] == ["ok"]
    assert net.sizes.count(2) > 3


def test_too_little_memory_for_one_image_is_an_error_of_that_image(job: Job) -> None:
    job = changed(with_network(job, LimitedMemory(0, OUT_OF_MEMORY[0])), batch_size=1)
    rows = [row for rows in pipeline.run(job) for row in rows]
    assert {row["status"] for row in rows} == {"error"}
    path = job.sources[0].path
    assert rows[0]["error"] == (
        f"{path}: custom failed (out of memory for one image of 32x32: "
        f"CUDA out of memory. Tried to allocate 2.00 GiB.)"
    )
