"""The bundled model: its size, accuracy and heatmaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import camcli
from camcli.methods.registry import METHODS
from camcli.models.families import model_names
from camcli.models.folder import MINI
from camcli.models.load import load
from camcli.models.model import Model
from camcli.training.data import Dataset, read_dataset, relabel, split
from camcli.training.train import accuracy
from tests.support.command import Run, stderr
from tests.support.files import SAMPLES, SHARED, manifest

CPU = torch.device("cpu")
CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
PHOTOS = {"cat": "cat", "chelsea": "cat", "dog": "dog", "horses": "horse"}
"""The classes of the sample images that it predicts correctly."""


@pytest.fixture(scope="module")
def mini() -> Model:
    return load("mini")


def test_it_is_the_default_and_below_5_mb(mini: Model) -> None:
    assert camcli.load().weights_hash == mini.weights_hash
    assert mini.class_names == CLASSES
    assert sum(file.stat().st_size for file in MINI.iterdir()) <= 5_000_000
    assert "mini" not in model_names(), "torchvision would have the same name"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_applies(method: str, mini: Model) -> None:
    shown = camcli.explain(mini, SAMPLES / "cat.jpg", method, "cat")
    assert shown.maps.isfinite().all()
    assert shown.maps.any()
    assert min(shown.maps.shape[-2:]) >= 7


def test_sample_photos(run: Run, tmp_path: Path) -> None:
    found = run("explain", SAMPLES, "--save", "map", "--output", tmp_path)
    assert found.exit_code == 0
    predicted = {Path(row["image"]).stem: row["class_name"] for row in manifest(tmp_path)}
    assert {name: predicted[name] for name in PHOTOS} == PHOTOS
    assert predicted["cat_dog"] in ("cat", "dog")


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "cam", "occlusion"])
def test_heat_is_on_the_target_animal(method: str, mini: Model) -> None:
    """cat_dog.jpg: the cat is on the left half, the dog on the right."""
    shown = camcli.explain(mini, SAMPLES / "cat_dog.jpg", method, ["cat", "dog"])
    left = []
    for maps in (one.maps[0].clamp(min=0) for one in shown):
        half = maps.shape[-1] // 2
        left.append(float(maps[:, :half].sum() / maps.sum()))
    assert left[0] > 0.55 > 0.45 > left[1]


def test_a_note_names_the_default_model(run: Run, tmp_path: Path) -> None:
    arguments = ("explain", SAMPLES / "cat.jpg", "--save", "map", "--output", tmp_path)
    (note, _) = stderr(run(*arguments)).splitlines()
    assert note.startswith("Note: mini, the bundled model, knows 10 classes; --model resnet50")
    assert stderr(run(*arguments, "--model", "mini")).startswith("1 image")
    assert run(*arguments, "--quiet").stderr_bytes == b""


def _shared(name: str) -> Dataset:
    path = SHARED / "train" / name
    if not path.exists():
        pytest.skip(f"needs real images: {name} is not in {SHARED.name}/train")
    return relabel(read_dataset(path), CLASSES)


def test_accuracy_on_small_images(mini: Model) -> None:
    source = _shared("cifar10-test.zip")
    tenth = source.subset(np.arange(len(source)) % 10 == 0)
    reached = accuracy(mini.module, tenth, mini.preset, CPU)
    assert reached >= 0.86


def test_accuracy_on_held_out_photos(mini: Model) -> None:
    held = split(_shared("photos.zip"), 0.1)[1]
    ours = np.array(["/in" not in name for name in held.names])  # the 500 photos of its README
    reached = accuracy(mini.module, held.subset(ours), mini.preset, CPU)
    assert reached >= 0.9
