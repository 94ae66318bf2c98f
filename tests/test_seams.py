"""One row adds one thing: an output, a kind of evidence with a method, a target.

Each test adds a thing from outside, sees it wherever it should be known, and removes it. Sources of
networks are tested in `models/test_sources.py`, metrics in `evaluation/test_seams.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from camcli import Model, explain
from camcli.capture.targets import Target, logits
from camcli.images.find import find
from camcli.images.preprocess import Preset
from camcli.methods import registry
from camcli.methods.registry import EvidenceKind
from camcli.runs import outputs, pipeline
from camcli.runs.job import Job
from camcli.runs.outputs import Drawing, OutputKind
from tests.support.command import Run
from tests.support.files import make_photo, manifest
from tests.support.networks import GapNet

NET = ("--model", "tests.support.networks:GapNet")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.jpg"):
        make_photo(tmp_path / "in" / name)
    return tmp_path / "in"


@pytest.fixture
def shape_output() -> Iterator[str]:
    """An output kind: a text file with the shape of the map."""

    def contents(drawing: Drawing) -> bytes:
        return repr(drawing.values.shape).encode()

    outputs.register_output("shape", OutputKind(".shape.txt", "shape_file", contents))
    yield "shape"
    del outputs._outputs["shape"]


def test_an_output_is_one_row(run: Run, photos: Path, tmp_path: Path, shape_output: str) -> None:
    out = tmp_path / "out"
    command = ("explain", photos, *NET, "--save", f"map,{shape_output}", "--output", out)
    listed = run(*command, "--dry-run").stdout_bytes.decode()
    assert f"{out}/a.gradcam.shape.txt" in listed
    assert run(*command).exit_code == 0
    for row in manifest(out):
        assert (out / row["shape_file"]).read_text() == repr(np.load(out / row["map"]).shape)

    (out / "b.gradcam.shape.txt").unlink()
    assert run(*command, "--skip-existing").exit_code == 0
    assert (out / "b.gradcam.shape.txt").exists(), "resuming misses a file that is gone"
    (missing := out / "a.gradcam.shape.txt").unlink()
    assert "a.gradcam.shape.txt" not in run("report", out).stdout_bytes.decode()
    assert b"missing files that the manifest names: 1" in run("report", out).stderr_bytes

    other = ("map", "--fit", "squash", "--target", "1", "--output", out, "--overwrite")
    assert run(*command[:-3], *other).exit_code == 0
    assert not missing.exists()
    assert not list(out.glob("*.shape.txt")), "replaced results leave a file behind"
    refused = run("explain", photos, *NET, "--save", "shap", "--output", out)
    assert b"did you mean 'shape'" in refused.stderr_bytes


@pytest.fixture
def strongest() -> Iterator[str]:
    """A kind of evidence, the activations' maximum over space, and a method that asks for it."""
    peaks = EvidenceKind(
        "(N,C)", "maximum of each channel", "layer", take=lambda shown: shown.acts.amax((2, 3))
    )
    registry.register_evidence("peaks", peaks)

    @registry.register("strongest", source="arXiv:0000.00000")
    def strongest(acts: Tensor, peaks: Tensor) -> Tensor:
        """Strongest: activations weighted by their maximum. (N,C,h,w), (N,C) -> (N,h,w)"""
        return (peaks[:, :, None, None] * acts).sum(1).relu()

    yield "strongest"
    del registry._methods["strongest"], registry._evidence["peaks"]


def test_evidence_and_a_method_are_one_row_each(
    run: Run, photos: Path, tmp_path: Path, strongest: str
) -> None:
    out = tmp_path / "out"
    assert strongest in run("explain", "--help").stdout_bytes.decode()
    assert run("explain", photos, *NET, "--method", strongest, "--output", out).exit_code == 0
    assert {row["method"] for row in manifest(out)} == {strongest}
    assert {row["status"] for row in manifest(out)} <= {"ok", "empty"}
    found = run("evaluate", photos, *NET, "--method", strongest, "--json")
    assert strongest in json.loads(found.stdout_bytes)["methods"]
    drawn = tmp_path / "figure.png"
    figure = run("figure", photos / "a.jpg", *NET, "--method", strongest, "--output", drawn)
    assert (figure.exit_code, drawn.exists()) == (0, True)
    (row,) = run("models", "resnet18", "--json").stdout_bytes.splitlines()
    assert strongest in json.loads(row)["methods"]


@dataclass(frozen=True)
class Margin(Target):
    """The score of the best class above that of the second."""

    spec: str = "margin"

    def score(self, output: Tensor) -> Tensor:
        best = logits(output).topk(2, dim=1).values
        return best[:, 0] - best[:, 1]


def test_a_target_is_one_class_with_a_score(photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Model(GapNet().eval(), preset=Preset(40, 32), num_classes=5)
    images = torch.rand(2, 3, 32, 32)
    shown = explain(model, images, "gradcam", Margin())
    best = model.module(images).topk(2, dim=1).values
    torch.testing.assert_close(shown.scores, (best[:, 0] - best[:, 1]).detach())
    job = Job(find([str(photos)]), model, ("gradcam",), ("pred", Margin()), tmp_path / "out")
    list(pipeline.run(job))
    rows = [row for row in manifest(job.output) if row["target"] == "margin"]
    assert [row["map"] for row in rows] == ["a.gradcam.margin.npy", "b.gradcam.margin.npy"]
    assert all(row["score"] > 0 and row["error"] is None for row in rows)
    assert [row["class_index"] for row in rows] == [None, None]
