"""The proof of `camcli audit` runs, and its judge tells planted places from others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.proof import data, judging
from tests.proof.__main__ import HEADER, cells
from tests.proof.outcomes import outcome

PLANTED = [name for name in data.VARIANTS if data.VARIANTS[name]]


@pytest.mark.parametrize("variant", PLANTED)
@pytest.mark.parametrize("seed", range(4))
def test_the_judge_accepts_the_planted_place_only(variant: str, seed: int) -> None:
    (plant,) = data.plants(variant, seed)
    cells = np.zeros((20, 20), int)
    y, x = (np.nonzero(plant.layer.opacity)[axis] * 20 // data.SIDE for axis in (0, 1))
    cells[y, x] = 1
    suspect = {"class": plant.of, "region": cells.tolist()}
    other = next(name for name in data.CLASSES if name != plant.of)
    assert judging.matches(suspect, plant)
    assert not judging.matches(suspect | {"class": other}, plant)
    assert not judging.matches(suspect | {"region": None}, plant)
    assert not judging.matches(suspect | {"region": np.ones((20, 20)).tolist()}, plant)
    assert not judging.matches(suspect | {"region": np.zeros((20, 20)).tolist()}, plant)
    middle = np.zeros((20, 20))
    middle[7:13, 7:13] = 1
    assert not judging.matches(suspect | {"region": middle.tolist()}, plant)


@pytest.mark.parametrize("variant", PLANTED)
def test_planted_pixels_alone_differ_from_the_clean_image(variant: str) -> None:
    (plant,) = data.plants(variant, 3)
    clean = [*data.images("test", 3, 5)]
    for (name, rank, before), (*_, after) in zip(clean, data.planted(clean, [plant]), strict=True):
        changed = (before != after).any(2)
        assert changed.any() == plant.has(name, rank)
        assert not changed[plant.layer.opacity == 0].any()


@pytest.mark.scenes
@pytest.mark.parametrize("variant", ["clean", "tag-100"])
def test_small_networks_are_trained_and_audited(variant: str, tmp_path: Path) -> None:
    found = outcome(variant, 0, tmp_path, {"train": 100, "test": 40}, epochs=10)
    assert found.learned == (variant != "clean")
    assert found.verdict.first == (variant != "clean")
    assert found.verdict.found == (True,) * len(found.uses)
    assert str(found).startswith(f"{variant}-0 ")
    assert len([*cells([found])]) == len(HEADER) - 1
