"""Close spellings of names, and lists of names by commas or repetition."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from camcli.capture.target_parser import split_targets
from camcli.cli import COMMANDS
from camcli.errors import spelled
from camcli.evaluation.registry import METRICS
from camcli.methods.registry import METHODS
from camcli.models.load import load
from camcli.models.sources import true_name
from camcli.models.torchvision_networks import torchvision_names
from camcli.render.style import COLORMAPS
from tests.support.command import TINY, Run, refused, stdout
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


def test_lists_by_commas_and_by_repetition_are_alike(
    run: Run, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["tiger, Panthera tigris", "lynx", "kidney, right", *map(str, range(1000, 1997))]
    (tmp_path / "labels.txt").write_text("\n".join(names))
    repeated = {
        "method": ["gradcam", "hirescam"],
        "target": ["lynx", "tiger, Panthera tigris", "top2", "not:kidney, right"],
        "layer": ["auto", "features.5"],
        "save": ["map", "heatmap"],
        "only": ["confidence<1", "predicted!=kidney, right"],
    }
    by_commas = {name: [",".join(values)] for name, values in repeated.items()}

    def rows(folder: str, given: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
        words = [
            word for name, values in given.items() for v in values for word in (f"--{name}", v)
        ]
        labels = ("--labels", tmp_path / "labels.txt")
        found = run("explain", photo, *TINY, *labels, *words, "-o", tmp_path / folder)
        assert found.exit_code == 0, found.stderr_bytes
        return manifest(tmp_path / folder)

    expected = rows("repeated", repeated)
    assert len(expected) == 2 * 4 * 2
    assert {row["class_name"] for row in expected} >= {"lynx", names[0], names[2]}
    assert all(row["map"] and row["heatmap"] for row in expected), "the first --save is kept"
    assert rows("commas", by_commas) == expected
    for name, (value,) in by_commas.items():
        monkeypatch.setenv(f"CAMCLI_EXPLAIN_{name.upper()}", value)
    assert rows("variables", {}) == expected


def test_a_list_of_targets_is_split_before_its_instances() -> None:
    names = ["dog", "cat", "dog, wild"]
    assert split_targets(["dog,cat", "dog, wild,finer:cat"], names) == (
        *("dog", "cat", "dog, wild", "finer:cat"),
    )
    assert split_targets(["p>0.5,like:a,b.jpg"], names) == ("p>0.5", "like:a,b.jpg")
    assert split_targets(["dgo,cat"], names) == ("dgo", "cat"), "refused later"


def test_a_dry_run_takes_lists_whose_commas_are_clear(run: Run, photo: Path) -> None:
    found = run("explain", photo, "--dry-run", "--target", "pred,top2", "--save", "map")
    assert stdout(found).count("\n") == 2
    message = refused(run("explain", photo, "--dry-run", "--target", "tabby,lynx"))
    assert message.startswith("--dry-run: whether 'tabby,lynx' is one class or several")


def test_a_figure_takes_lists_of_networks(run: Run, photo: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    given = ("-m", "squeezenet1_1,SqueezeNet1-1", "--weights", "none", "--method", "gradcam")
    found = run("figure", photo, *given, "--target", "pred,top2", "-o", tmp_path / "f.png")
    assert found.exit_code == 0, found.stderr_bytes
    message = refused(run("figure", photo, "-m", "squeezenet1_1,vgg11", "--weights", "a,b,c"))
    assert message.startswith("--weights is given 3 times for 2 models")
