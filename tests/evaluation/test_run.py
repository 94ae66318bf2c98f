"""Runs over images that do not fit into memory or that the network does not accept."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from camcli.errors import MethodError
from camcli.evaluation.protocol import Protocol
from camcli.evaluation.registry import default_metrics
from camcli.evaluation.run import run_study
from camcli.evaluation.scores import BatchScores, Failure, Scores
from camcli.evaluation.study import Study
from camcli.images.preprocess import Preset
from camcli.models.model import Model
from tests.support.evaluation import Colours, sources_of
from tests.support.files import make_photo
from tests.support.networks import GapNet


def scores_of(study: Study) -> Scores:
    scores = Scores(study)
    for result in run_study(study):
        scores.add(result)
    return scores


def test_a_batch_is_halved_when_memory_is_short(coloured: Path) -> None:
    class Small(Colours):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) > 2:
                raise torch.OutOfMemoryError
            return super().forward(x)

    metrics, protocol = ("deletion", "grid"), Protocol(curve_steps=3, min_confidence=0)
    found = []
    for module in (Colours().eval(), Small().eval()):
        study = Study(sources_of(coloured), Model(module), ("cam",), metrics, protocol)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            found.append(scores_of(study))
    assert any("out of memory" in str(one.message) for one in warned)
    assert not found[1].failures
    for name in metrics:
        assert np.allclose(found[0].values[name], found[1].values[name], atol=1e-5, equal_nan=True)


def test_metrics_need_a_classification_network(photos: Path) -> None:
    model = Model(GapNet(), name="dense", task="segmentation")
    study = Study(sources_of(photos), model, ("cam",), default_metrics(annotated=False))
    with pytest.raises(MethodError, match="dense is a segmentation network"):
        next(run_study(study))


def test_images_that_the_network_rejects_do_not_stop_the_others(tmp_path: Path) -> None:
    """Images of several shapes, of which one is too small for the network's second layer."""
    make_photo(tmp_path / "a.png", 60, 50)
    make_photo(tmp_path / "b.png", 50, 60)
    make_photo(tmp_path / "c.png", 4, 40)
    sources = sources_of(tmp_path)
    model = Model(GapNet().eval(), preset=Preset(resize=4, crop=None))
    small = list(run_study(Study(sources, model, ("cam",), ("complexity",))))
    assert all(isinstance(result, Failure) for result in small)
    assert "custom failed (" in str(small[0].error)
    model = Model(GapNet().eval(), preset=Preset(resize=40, crop=None))
    metrics = ("complexity", "deletion")
    scores = scores_of(Study(sources, model, ("cam",), metrics, Protocol(curve_steps=3)))
    assert sorted(scores.classes) == [0, 1, 2]
    assert np.isfinite(scores.values["deletion"]).all()


@pytest.mark.parametrize(
    ("methods", "metrics"),
    [
        (("cam", "gradcam"), ("insertion", "deletion")),
        (("cam", "gradcam"), ("average-drop",)),
        (("cam", "gradcam"), ("win",)),
        (("cam", "gradcam"), ("road",)),
        (("cam", "scorecam", "occlusion"), ("coherency", "deletion")),
        (("scorecam", "occlusion"), ("sanity",)),
        (("cam",), ("occlusion-correlation",)),
        (("occlusion",), ("occlusion-correlation", "complexity")),
        (("scorecam", "occlusion"), ("grid",)),
        (("occlusion",), ("grid", "complexity")),
    ],
)
@pytest.mark.parametrize("image_size", ["full", "half"])
def test_the_work_of_every_forward_pass_is_counted(
    methods: tuple[str, ...], metrics: tuple[str, ...], image_size: str, coloured: Path
) -> None:
    """The bar of a run reaches the number of its images, and moves within an explanation."""
    if "road" in metrics:
        pytest.importorskip("scipy")
    protocol = Protocol(
        curve_steps=3, sanity_steps=2, window=20, min_confidence=0, grid_image_size=image_size
    )
    model = Model(Colours().eval(), preset=Preset(resize=32, crop=None))
    study = Study(sources_of(coloured), model, methods, metrics, protocol)
    passed: list[float] = []
    results = [*run_study(study, passed.append)]
    assert not any(isinstance(one, Failure) for one in results)
    assert sum(passed) == pytest.approx(len(study.sources))
    assert len(passed) > len(results)
    if "occlusion" in methods or "occlusion-correlation" in metrics:
        assert max(passed) < 0.5 * len(study.sources)


def test_the_images_of_a_grid_are_measured_after_it(coloured: Path) -> None:
    """Their number moves the bar to its end, while the grid still moves it."""
    model = Model(Colours().eval(), preset=Preset(resize=32, crop=None))
    protocol = Protocol(min_confidence=0)
    study = Study(sources_of(coloured), model, ("cam",), ("grid",), protocol)
    measured = [len(one.classes) for one in run_study(study) if isinstance(one, BatchScores)]
    assert sum(measured) == measured[-1] == len(study.sources)
    assert len(measured) > 1
