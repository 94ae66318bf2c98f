"""Random views of training images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from camcli.training.augment import random_views
from camcli.training.data import read_dataset


def test_views_depend_only_on_the_seed(folder: Path) -> None:
    images = read_dataset(folder).pixels[::7]
    one, again, other = (random_views(images, 24, np.random.default_rng(s))[0] for s in (5, 5, 6))
    assert one.shape == (len(images), 24, 24, 3)
    assert one.dtype == np.uint8
    assert np.array_equal(one, again)
    assert (one != other).any((1, 2, 3)).all()


def test_images_are_not_changed(folder: Path) -> None:
    images = read_dataset(folder).pixels[::7]
    before = [pixels.copy() for pixels in images]
    random_views(images, 64, np.random.default_rng(0))
    assert all(map(np.array_equal, before, images))


def test_sharpness_reveals_little_about_the_source() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)  # the sharpest image possible
    ramp = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8)[:, None], (64, 64, 3)).copy()
    views, resolutions = random_views([noise] * 40 + [ramp] * 120, 64, rng)
    steps = np.abs(np.diff(views[..., 1].astype(np.float32), axis=2)).mean((1, 2))
    assert np.corrcoef(steps[:40], resolutions[:40])[0, 1] > 0.8
    assert (resolutions <= 40).mean() == pytest.approx(0.5, abs=0.15)
    sharp, smooth = steps[:40], steps[40:]
    assert (sharp < 0.4 * sharp.max()).mean() > 0.25, "too few sharp images are blurred"
    assert (smooth > 0.1 * sharp.max()).mean() > 0.1, "too few smooth images get added detail"
