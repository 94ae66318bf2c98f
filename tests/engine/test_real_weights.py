"""Real weights on real photos: right classes, heat on the animal, red over what counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from camcli.methods.registry import METHODS
from tests.support.files import SAMPLES, SHARED, manifest

CAT, DOG = "Egyptian cat", "German shepherd"
MARGINS = {"gradcam++": 0.15, "xgradcam": 0.25}
MARGINS |= dict.fromkeys(["gradcam++softmax", "eigengradcam", "scorecam", "ablationcam"], 0.15)


def test_top1_on_imagenet(real: list[str], run: Callable[..., Result], tmp_path: Path) -> None:
    photos = SHARED / "images" / "imagenet"
    if not photos.is_dir():
        pytest.skip(f"needs real photos: {SHARED.name}/images/imagenet is not there")
    found = run("explain", photos, *real, "--save", "map", "--output", tmp_path, "--quiet")
    assert found.exit_code == 0
    rows = manifest(tmp_path)
    right = [int(row["image"][:4]) == row["class_index"] for row in rows]
    assert len(rows) == 500
    assert np.mean(right) >= 0.6
    assert {row["status"] for row in rows} == {"ok"}


@pytest.mark.parametrize("name", METHODS)
def test_heat_tells_the_cat_from_the_dog(
    name: str, real: list[str], run: Callable[..., Result], tmp_path: Path
) -> None:
    """The cat is on the left half, the dog on the right: so is each one's evidence."""
    found = run(
        *("explain", SAMPLES / "cat_dog.jpg", *real, "--method", name, "--quiet"),
        *("--target", CAT, "--target", DOG, "--output", tmp_path, "--fit", "squash"),
    )
    assert found.exit_code == 0
    cat, dog = (np.load(tmp_path / f"cat_dog.{name}.{t}.npy").clip(min=0) for t in (CAT, DOG))
    if name == "eigencam":
        assert np.array_equal(cat, dog), "it knows no class"
        return
    if name == "guided-backprop":
        # It is no more than edges: known, and the reason for Guided Grad-CAM (sec. 3.2).
        assert np.corrcoef(cat.ravel(), dog.ravel())[0, 1] > 0.5
        return
    half = cat.shape[-1] // 2
    share_left = [float(m[..., :half].sum() / m.sum()) for m in (cat, dog)]
    # The network gives this photo's cat no chance, so some of its heat is on the dog's head;
    # more of it for methods that follow strong activations or see positive gradients alone.
    assert share_left[0] > share_left[1] + MARGINS.get(name, 0.3)
    assert share_left[1] < 0.35, "the dog's evidence is on the right"


@pytest.mark.parametrize("name", ["gradcam", "gradcam++", "cam", "occlusion"])
def test_red_lies_on_the_dogs_head(
    name: str, real: list[str], run: Callable[..., Result], tmp_path: Path
) -> None:
    """dog.jpg: the head is in the upper right quarter, and nothing else of the dog is."""
    photo = SAMPLES / "dog.jpg"
    arguments = ("--method", name, "--colormap", "jet", "--save", "heatmap", "--quiet")
    assert run("explain", photo, *real, *arguments, "--output", tmp_path).exit_code == 0
    with Image.open(tmp_path / f"dog.{name}.heatmap.png") as image, Image.open(photo) as original:
        assert image.size == original.size == (1024, 768)
        heat = np.asarray(image).astype(int)
    warm = (heat[..., 0] > 200) & (heat[..., 1] < 60) & (heat[..., 2] < 60)
    rows, columns = np.nonzero(warm)
    assert len(rows) > 100
    assert 740 < columns.mean() < 900
    assert 30 < rows.mean() < 250
