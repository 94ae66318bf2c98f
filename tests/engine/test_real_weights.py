"""The maps of every method on real photos, with the bundled model: heat is on the animal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.command import Run
from tests.support.files import SAMPLES
from tests.support.networks import OF_MAPS

CAT, DOG = "Egyptian cat", "German shepherd"
MARGINS = {"gradcam++": 0.2, "gradcam++softmax": 0.2, "eigengradcam": 0.3, "scorecam": 0.3}
"""How much more of the dog's heat than of the cat's must lie on the dog; 0.35 for the others."""


@pytest.mark.parametrize("name", OF_MAPS)
def test_maps_of_cat_and_dog_differ(name: str, run: Run, tmp_path: Path) -> None:
    """cat_dog.jpg: the dog is on the left third, the cat on the right."""
    found = run(
        *("explain", SAMPLES / "cat_dog.jpg", "--method", name, "--quiet"),
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
    left = cat.shape[-1] // 3
    on_dog = [float(m[..., :left].sum() / m.sum()) for m in (cat, dog)]
    assert on_dog[1] > on_dog[0] + MARGINS.get(name, 0.35)


@pytest.mark.parametrize("name", ["gradcam", "gradcam++", "cam", "occlusion"])
def test_the_hottest_region_is_the_dogs_head(name: str, run: Run, tmp_path: Path) -> None:
    """dog.jpg: only the head of the dog is in the upper right quarter."""
    photo = SAMPLES / "dog.jpg"
    arguments = ("--method", name, "--colormap", "jet", "--save", "heatmap", "--quiet")
    assert run("explain", photo, *arguments, "--output", tmp_path).exit_code == 0
    with Image.open(tmp_path / f"dog.{name}.heatmap.png") as image, Image.open(photo) as original:
        assert image.size == original.size == (1024, 768)
        heat = np.asarray(image).astype(int)
    warm = (heat[..., 0] > 200) & (heat[..., 1] < 60) & (heat[..., 2] < 60)
    rows, columns = np.nonzero(warm)
    assert len(rows) > 100
    assert 740 < columns.mean() < 900
    assert 30 < rows.mean() < 250
