"""Real weights on real photos: correct classes, and heat on the animal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from camcli.methods.registry import METHODS
from tests.support.command import Run
from tests.support.files import SAMPLES, SHARED, manifest

CAT, DOG = "Egyptian cat", "German shepherd"
MARGINS = {"gradcam++": 0.15, "xgradcam": 0.25}
MARGINS |= dict.fromkeys(["gradcam++softmax", "eigengradcam", "scorecam", "ablationcam"], 0.15)


def test_top1_on_imagenet(real: list[str], run: Run, tmp_path: Path) -> None:
    photos = SHARED / "images" / "imagenet"
    if not photos.is_dir():
        pytest.skip(f"needs real photos: {SHARED.name}/images/imagenet is not there")
    found = run("explain", photos, *real, "--save", "map", "--output", tmp_path, "--quiet")
    assert found.exit_code == 0
    rows = manifest(tmp_path)
    correct = [int(row["image"][:4]) == row["class_index"] for row in rows]
    assert len(rows) == 500
    assert np.mean(correct) >= 0.6
    assert {row["status"] for row in rows} == {"ok"}


@pytest.mark.parametrize("name", METHODS)
def test_maps_of_cat_and_dog_differ(name: str, real: list[str], run: Run, tmp_path: Path) -> None:
    """cat_dog.jpg: the cat is on the left half, the dog on the right."""
    found = run(
        *("explain", SAMPLES / "cat_dog.jpg", *real, "--method", name, "--quiet"),
        *("--target", CAT, "--target", DOG, "--output", tmp_path, "--fit", "squash"),
    )
    assert found.exit_code == 0
    cat, dog = (np.load(tmp_path / f"cat_dog.{name}.{t}.npy").clip(min=0) for t in (CAT, DOG))
    if name == "eigencam":
        assert np.array_equal(cat, dog), "independent of the class"
        return
    if name == "guided-backprop":
        # It shows edges of both, which is the reason for Guided Grad-CAM (sec. 3.2).
        assert np.corrcoef(cat.ravel(), dog.ravel())[0, 1] > 0.5
        return
    half = cat.shape[-1] // 2
    share_left = [float(m[..., :half].sum() / m.sum()) for m in (cat, dog)]
    # The network's probability of the cat is about 0, so some of its heat is on the dog's head,
    # and more for methods that follow strong activations or use positive gradients only.
    assert share_left[0] > share_left[1] + MARGINS.get(name, 0.3)
    assert share_left[1] < 0.35, "the dog is on the right"


@pytest.mark.parametrize("name", ["gradcam", "gradcam++", "cam", "occlusion"])
def test_the_hottest_region_is_the_dogs_head(
    name: str, real: list[str], run: Run, tmp_path: Path
) -> None:
    """dog.jpg: only the head of the dog is in the upper right quarter."""
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
