"""Sources of networks: one row from outside is enough for every command."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click
import pytest
import torch

from camcli import load
from camcli.cli import camcli
from camcli.errors import ModelError
from camcli.images.preprocess import Preset
from camcli.models.load import load_for_training, outline
from camcli.models.model import Model
from camcli.models.options import ModelOptions
from camcli.models.sources import SOURCES, NetworkSource, find_source, register_source
from tests.support.command import Run
from tests.support.files import make_photo, manifest
from tests.support.networks import GapNet


def build(name: str, class_names: Sequence[str], seed: int = 0) -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = GapNet(len(class_names))
    names = tuple(class_names)
    return Model(module, name, "toy", Preset(32, 32), names, len(names), layer="last")


TOY = NetworkSource(
    name="toy",
    summary="toy:NAME",
    accepts=lambda name: name.startswith("toy:"),
    load=lambda options: build(options.name, ["ant", "bee"], options.seed),
    names=lambda: ["toy:small"],
    initialise=build,
)


@pytest.fixture
def toy() -> Iterator[None]:
    register_source(TOY)
    yield
    SOURCES.remove(TOY)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of images."""
    for name in ("ant", "bee"):
        for i in range(12):
            make_photo(tmp_path / "data" / name / f"{i}.png", 30 + i, 30)
    return tmp_path


def explained(run: Run, folder: Path) -> None:
    found = run("explain", folder / "data", "--model", "toy:small", "--output", folder / "out")
    assert found.exit_code == 0, found.stderr_bytes
    assert {row["class_name"] for row in manifest(folder / "out")} <= {"ant", "bee"}


def listed(run: Run, folder: Path) -> None:
    (row,) = run("models", "toy", "--json").stdout_bytes.splitlines()
    entry = json.loads(row)
    assert (entry["name"], entry["family"], entry["map"]) == ("toy:small", "toy", [7, 7])


def layers_listed(run: Run, folder: Path) -> None:
    rows = run("layers", "toy:small", "--json").stdout_bytes.splitlines()
    assert [row["path"] for row in map(json.loads, rows) if row["auto"]] == ["last"]


def evaluated(run: Run, folder: Path) -> None:
    arguments = ("--model", "toy:small", "--metric", "average-drop", "--json", "--device", "cpu")
    found = run("evaluate", folder / "data" / "ant", *arguments)
    assert found.exit_code == 0, found.stderr_bytes
    assert json.loads(found.stdout_bytes)["model"] == "toy:small"


def drawn(run: Run, folder: Path) -> None:
    pytest.importorskip("matplotlib")
    arguments = ("--model", "toy:small", "--output", folder / "figure.png")
    found = run("figure", folder / "data" / "ant" / "0.png", *arguments)
    assert found.exit_code == 0, found.stderr_bytes
    assert (folder / "figure.png").exists()


def trained(run: Run, folder: Path) -> None:
    arguments = ("--epochs", 1, "--batch-size", 4, "--image-size", 24, "--val", 0.5)
    output = folder / "model"
    found = run(
        *("train", folder / "data", "--model", "toy:small", *arguments),
        *("--device", "cpu", "--output", output),
    )
    assert found.exit_code == 0, found.stderr_bytes
    model = load(str(output))
    assert (model.class_names, model.preset.crop) == (("ant", "bee"), 24)


@pytest.mark.filterwarnings("ignore::camcli.errors.CamcliWarning")
@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    "check", [explained, listed, layers_listed, evaluated, drawn, trained], ids=lambda c: c.__name__
)
def test_every_command_takes_a_registered_source(
    check: Callable[[Run, Path], None], run: Run, folder: Path
) -> None:
    check(run, folder)


@pytest.mark.parametrize("command", ["explain", "evaluate", "figure", "train"])
def test_help_lists_the_sources(command: str, toy: None) -> None:
    context = click.Context(camcli)
    found = camcli.get_command(context, command)
    assert found
    (option,) = (each for each in found.params if each.name == "model")
    assert "toy:NAME" in option.get_help_record(context)[1]  # type: ignore[index]
    SOURCES.remove(TOY)
    assert "toy:NAME" not in option.get_help_record(context)[1]  # type: ignore[index]
    register_source(TOY)


def test_a_source_that_cannot_be_trained_is_one_line(toy: None) -> None:
    register_source(fixed := replace(TOY, accepts=lambda name: name == "fixed", initialise=None))
    try:
        with pytest.raises(ModelError, match=r"^model 'fixed' cannot be trained: expected toy:"):
            load_for_training(ModelOptions("fixed"), ["ant", "bee"])
    finally:
        SOURCES.remove(fixed)
    with pytest.raises(ModelError, match="'fcn_resnet50' is for segmentation"):
        load_for_training(ModelOptions("fcn_resnet50", "none"), ["ant", "bee"])


def test_an_outline_has_no_weights() -> None:
    assert all(p.is_meta for p in outline("resnet18").module.parameters())
    assert find_source("resnet18").name == "torchvision"
    assert outline("mini").class_names


OWN = """
from torch import nn

def pair(num_classes=5):
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(4, num_classes))

def five():
    return pair()
"""


@pytest.mark.parametrize("factory", ["pair", "five"])
def test_a_factory_network_can_be_trained(
    factory: str, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"own_{folder.name}"
    (folder / f"{package}.py").write_text(OWN)
    monkeypatch.chdir(folder)
    name = f"{package}:{factory}"
    arguments = ("--epochs", 1, "--batch-size", 4, "--image-size", 24, "--device", "cpu")
    found = run("train", "data", "--model", name, *arguments, "--output", "model")
    assert found.exit_code == 0, found.stderr_bytes
    model = load(name, "model")
    assert (model.class_names, model.preset.crop) == (("ant", "bee"), 24)
    assert model.module[4].weight.shape == (2, 4)
    with pytest.raises(ModelError, match=f"give --model {name} --weights model$"):
        load("model")  # a file does not make code run
