"""Whole runs on coloured squares: plain, distilled, from initial weights, and resumed."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from camcli.errors import CamcliError
from camcli.images.preprocess import Preset
from camcli.models.load import load
from camcli.models.model import Model
from camcli.models.torchvision_networks import initialise_torchvision
from camcli.training.data import Splits
from camcli.training.distillation import TRAINABLE_METHODS
from camcli.training.recipe import Phase, Recipe
from camcli.training.state import EpochRecord
from camcli.training.train import accuracy, train
from tests.support.training import COLOURS, RECIPE

CPU = torch.device("cpu")
Teacher = tuple[Model, list[EpochRecord]]


def run(recipe: Recipe, data: Splits, output: Path, teacher: Model | None = None) -> list[Any]:
    """Train to the end. Returns the records of the epochs."""
    *records, _ = train(recipe, data, output, device=CPU, teacher=teacher)
    return records


def test_training_learns(teacher: Teacher, data: Splits) -> None:
    model, (*epochs, _) = teacher
    first, last = epochs[0], epochs[-1]
    assert [record["epoch"] for record in epochs] == list(range(1, 8))
    assert last["ce"] < first["ce"]
    assert last["val_accuracy"] >= max(0.7, first["val_accuracy"]), "chance is 1/3"
    assert model.class_names == tuple(COLOURS)
    assert (model.preset.resize, model.preset.crop) == (50, 50)
    measured = accuracy(model.module, data.val[0], model.preset, CPU)
    assert measured == pytest.approx(max(r["val_accuracy"] for r in epochs), abs=0.035)


@pytest.mark.parametrize("method", TRAINABLE_METHODS)
def test_distillation_brings_maps_close_to_those_of_the_teacher(
    method: str, teacher: Teacher, data: Splits, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, phases=(Phase(50, 6),), seed=8, explain_method=method)
    blank = initialise_torchvision(recipe.model, data.classes).module.eval()
    before = accuracy(blank, data.val[0], Preset(50, 50), CPU)
    without = run(replace(recipe, alpha=0.0), data, tmp_path / "without", teacher[0])
    with_loss = run(replace(recipe, alpha=1.0), data, tmp_path / "with", teacher[0])
    for records in (without, with_loss):
        assert records[-1]["val_accuracy"] > max(before, 0.6), "chance is 1/3"
    loss = with_loss[-1]["explanation"]
    assert loss < 0.5 * with_loss[0]["explanation"], "it does not fall"
    assert loss < 0.5 * without[-1]["explanation"], "it falls without being trained on"


def test_training_from_initial_weights(teacher: Teacher, data: Splits, tmp_path: Path) -> None:
    weights = tmp_path / "trained.pth"
    torch.save(teacher[0].module.state_dict(), weights)
    recipe = replace(RECIPE, phases=(Phase(50, 2),), weights=str(weights), lr=1e-3)
    classes = ("b", "g", "r")
    train_part, val_part = (
        tuple(replace(source, classes=classes) for source in sources)
        for sources in (data.train, data.val)
    )
    renamed = Splits(classes, train_part, val_part)
    pretrained = run(recipe, renamed, tmp_path / "pretrained")
    blank = run(replace(recipe, weights="none"), renamed, tmp_path / "blank")
    assert pretrained[-1]["ce"] < 0.8 * blank[-1]["ce"]
    card = json.loads((tmp_path / "pretrained" / "model.json").read_text())
    assert card["training"]["weights"].startswith("squeezenet1_1 sha256:")
    assert load(str(tmp_path / "pretrained")).class_names == classes
    with pytest.raises(CamcliError, match=r"holds another run \(weights squeezenet1_1 sha256"):
        run(replace(recipe, weights="none"), renamed, tmp_path / "pretrained")

    earlier = str(tmp_path / "pretrained")
    longer = replace(recipe, weights=earlier, lr=1e-9)
    continued = run(longer, renamed, tmp_path / "continued")
    assert continued[-1]["ce"] < pretrained[-1]["ce"], "the class layer is not kept"
    with pytest.raises(CamcliError, match="do not fit resnet18"):
        run(replace(longer, model="resnet18"), renamed, tmp_path / "other")
    with pytest.raises(CamcliError, match="cannot be trained"):
        run(replace(recipe, model=earlier), renamed, tmp_path / "other")


def distil(
    data: Splits, output: Path, teacher: Model, stop_after: int | None = None, **changes: Any
) -> list[EpochRecord]:
    """Distil for two epochs at one size and one at another, and stop after some records."""
    phases = (Phase(33, 2), Phase(37, 1))
    recipe = replace(RECIPE, phases=phases, kd_weight=0.5, alpha=0.3, **changes)
    records = train(recipe, data, output, device=CPU, teacher=teacher)
    return list(itertools.islice(records, stop_after))


def records_without_times(file: Path) -> list[EpochRecord]:
    records = [json.loads(line) for line in file.read_text().splitlines()]
    return [{key: value for key, value in r.items() if key != "seconds"} for r in records]


def test_resumed_run_equals_an_uninterrupted_one(
    teacher: Teacher, data: Splits, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert len(distil(data, whole, teacher[0])) == 4
    torch.manual_seed(99)  # the global random state must not matter
    assert [r["epoch"] for r in distil(data, parts, teacher[0], stop_after=1)] == [1]
    torch.rand(5)
    assert [r.get("epoch") for r in distil(data, parts, teacher[0])] == [2, 3, None]
    for name in ("weights.safetensors", "model.json", "labels.txt"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name
    metrics = [records_without_times(folder / "metrics.jsonl") for folder in (whole, parts)]
    assert metrics[0] == metrics[1]
    one, other = (torch.load(f / "checkpoint.pt", weights_only=True) for f in (whole, parts))
    for part in ("module", "average"):
        assert all(torch.equal(one[part][key], other[part][key]) for key in one[part])
    assert not list(parts.glob("*.tmp"))

    assert [r.get("finished") for r in distil(data, parts, teacher[0])] == [3]
    with pytest.raises(CamcliError, match=r"holds another run \(seed 3, now 4\)"):
        distil(data, parts, teacher[0], seed=4)
    (parts / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CamcliError, match="not readable"):
        distil(data, parts, teacher[0])


def test_folder_holds_the_best_epoch_of_the_current_size(
    data: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = iter([0.9, 0.8, 0.3, 0.5, 0.4])
    monkeypatch.setattr("camcli.training.train.accuracy", lambda *_: next(measured, 0.0))
    recipe = replace(RECIPE, phases=(Phase(33, 2), Phase(35, 3)))
    kept = [
        json.loads((tmp_path / "model.json").read_text())["epoch"]
        for _ in train(recipe, data, tmp_path, device=CPU)
    ]
    assert kept == [1, 1, 3, 4, 4, 4]
    assert load(str(tmp_path)).preset.crop == 35
