"""Close spellings of names, and lists of names by commas or repetition."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from camcli.cli import COMMANDS
from camcli.errors import spelled
from camcli.evaluation.registry import METRICS
from camcli.methods.registry import METHODS
from camcli.models.load import load
from camcli.models.sources import true_name
from camcli.models.torchvision_networks import torchvision_names
from camcli.render.style import COLORMAPS
from tests.support.command import Run, refused
from tests.support.files import manifest


@pytest.mark.parametrize("names", [METHODS, METRICS, COLORMAPS, COMMANDS])
def test_no_two_names_are_spellings_of_each_other(names: list[str]) -> None:
    for name in names:
        assert spelled(name.upper().replace("_", "-"), names) == name


def test_an_ambiguous_spelling_is_left_alone() -> None:
    names = torchvision_names()
    assert spelled("RegNet_X_16GF", names) == "regnet_x_16gf"
    assert spelled("RegNet-X-16GF", names) == "RegNet-X-16GF", "or regnet_x_1_6gf"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        *[(one, "gradcam") for one in ("grad-cam", "GradCAM", "Grad CAM")],
        *[(one, "gradcam++") for one in ("Grad-CAM++", "gradcam_plusplus", "gradcampp")],
        *[("score-cam", "scorecam"), ("Guided_Backprop", "guided-backprop")],
        *[("grad-camm", "grad-camm"), ("gradcam+", "gradcam+")],
    ],
)
def test_a_method_is_understood_in_other_spellings(given: str, name: str) -> None:
    assert spelled(given, METHODS) == name


def test_a_model_is_understood_in_other_spellings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"ResNet50": "resnet50", "ResNet-50": "resnet50", "VGG16": "vgg16", "Mini": "mini"}
    names |= {"EfficientNet-B0": "efficientnet_b0", "ViT-B/16": "ViT-B/16"}
    names |= {one: one for one in ("timm:ResNet50", "hf:ResNet50", "nets.py:ResNet50")}
    assert {given: true_name(given) for given in names} == names
    assert load("SqueezeNet1-1", "none").name == "squeezenet1_1"
    monkeypatch.chdir(tmp_path)
    Path("ResNet50").mkdir()
    assert true_name("ResNet50") == "ResNet50", "a folder is a model of its own"


def test_true_names_are_recorded(run: Run, photo: Path, tmp_path: Path) -> None:
    found = run(
        *("explain", photo, "--model", "SqueezeNet-1_1", "--weights", "none"),
        *("--method", "Grad-CAM++", "--colormap", "Viridis", "--save", "Map", "--quiet"),
        *("--output", tmp_path / "out"),
    )
    assert (found.exit_code, found.stderr_bytes) == (0, b"")
    (row,) = manifest(tmp_path / "out")
    assert (row["method"], row["map"]) == ("gradcam++", "photo.gradcam++.npy")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["model"] == "squeezenet1_1"
    assert record["colormap"] == "viridis"


def test_other_names_are_refused(run: Run, photo: Path) -> None:
    assert "did you mean 'resnet50'" in refused(run("explain", photo, "--model", "resnet5O"))
    assert "did you mean 'gradcam'" in refused(run("explain", photo, "--method", "gradcm"))
