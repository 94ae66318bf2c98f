"""Real runs: what must pass the default tolerance and what must not.

`python -m tests.snapshots.test_sensitivity` prints how many sample photos fail for noise on the
weights of mini, for docs/check.md.
"""

from __future__ import annotations

import sys
import tempfile
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from camcli import Model, load
from camcli.images.find import find
from camcli.images.preprocess import Preset
from camcli.runs import pipeline
from camcli.runs.job import Job
from camcli.snapshots.compare import compare
from camcli.snapshots.measures import Tolerance
from tests.support.files import SAMPLES, make_photo, manifest
from tests.support.jobs import changed
from tests.support.networks import GapNet
from tests.support.snapshots import write_rows


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Five photos explained by six methods."""
    torch.manual_seed(0)
    for i in range(5):
        make_photo(tmp_path / "in" / f"{i}.jpg", 60 + 10 * i, 50)
    model = Model(GapNet(), preset=Preset(40, 32), num_classes=5)
    methods = ("gradcam", "gradcam++", "cam", "guided", "guided-backprop", "occlusion")
    return Job(
        find([str(tmp_path / "in")]), model, methods, ("4",), tmp_path / "base", saves=("map",)
    )


def run(job: Job, **changes: Any) -> Job:
    job = changed(job, **changes)
    list(pipeline.run(job))
    return job


def count_differing(job: Job, folder: Path, **changes: Any) -> int:
    """Count the results of a changed job that differ from those of the job."""
    baseline, new = run(job), run(job, output=folder, **changes)
    comparisons = compare(new.output, baseline.output, Tolerance())
    return sum(bool(one.reasons) for one in comparisons)


def copy_network(job: Job) -> GapNet:
    module = GapNet()
    module.load_state_dict(job.model.module.state_dict())
    return module


@pytest.mark.parametrize("changes", [{"batch_size": 1}, {"batch_size": 2}, {"workers": 3}])
def test_other_batches_and_workers_pass(changes: dict[str, int], job: Job, tmp_path: Path) -> None:
    assert count_differing(job, tmp_path / "new", **changes) == 0


def with_noise(model: Model, noise: float, seed: int) -> Model:
    """Return a copy of a model with relative Gaussian noise on its weights."""
    module, generator = deepcopy(model.module), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.mul_(1 + noise * torch.randn(weight.shape, generator=generator))
    return replace(model, module=module)


def test_weights_with_noise_of_one_percent_fail(job: Job, tmp_path: Path) -> None:
    model = with_noise(job.model, 0.01, seed=1)
    assert count_differing(job, tmp_path / "new", model=model) >= 15


def failing_photos(method: str, noise: float, seed: int) -> int:
    """Count the sample photos whose map differs for noise on the weights of mini."""
    with tempfile.TemporaryDirectory() as made:
        model, folder = load(), Path(made)
        sources = find([str(SAMPLES)])
        job = Job(sources, model, (method,), ("pred",), folder / "base", saves=("map",))
        return count_differing(job, folder / "new", model=with_noise(model, noise, seed))


def test_noise_of_one_percent_fails_for_every_sample_photo() -> None:
    assert failing_photos("gradcam", 0.01, seed=0) == len(find([str(SAMPLES)]))


def test_one_step_of_training_fails(job: Job, tmp_path: Path) -> None:
    module = copy_network(job)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    nn.functional.cross_entropy(module(images), torch.arange(8) % 5).backward()
    optimizer.step()
    model = replace(job.model, module=module)
    assert count_differing(job, tmp_path / "new", model=model) >= 20


def test_another_layer_fails(job: Job, tmp_path: Path) -> None:
    job = replace(job, methods=("gradcam", "guided"))
    assert count_differing(job, tmp_path / "layer", layers=("trunk",)) == 10


def test_another_method_fails(job: Job, tmp_path: Path) -> None:
    baseline = run(job, methods=("gradcam", "guided"))
    run(job, output=tmp_path / "new", methods=("gradcam++", "cam"))
    as_method = {"gradcam++": "gradcam", "cam": "guided"}
    rows = manifest(tmp_path / "new")
    write_rows(tmp_path / "new", [row | {"method": as_method[row["method"]]} for row in rows])
    found = compare(tmp_path / "new", baseline.output, Tolerance())
    assert len(found) == 10
    assert all(one.reasons for one in found)


def test_thread_count_and_batch_size_pass_for_a_large_network(tmp_path: Path) -> None:
    """One thread and batches of five, two threads and batches of one: far below the tolerance."""
    for i in range(5):
        make_photo(tmp_path / "in" / f"{i}.jpg", 300 + 20 * i, 250)
    sources, model = find([str(tmp_path / "in")]), load("squeezenet1_1", "none")
    job = Job(sources, model, ("gradcam++", "guided"), ("pred",), tmp_path / "1", saves=("map",))
    run(job)
    try:
        torch.set_num_threads(2)
        run(job, output=tmp_path / "2", batch_size=1)
    finally:
        torch.set_num_threads(1)
    found = compare(tmp_path / "2", tmp_path / "1", Tolerance(rtol=1e-4))
    assert [one.verdict for one in found] == ["alike"] * 10


if __name__ == "__main__":
    photos = len(find([str(SAMPLES)]))
    for method in ("gradcam", "gradcam++", "guided-backprop"):
        for noise in (0.01, 0.001):
            failing = [failing_photos(method, noise, seed) for seed in range(4)]
            sys.stdout.write(f"{method}, noise {noise:.1%}: {failing} of {photos}\n")
