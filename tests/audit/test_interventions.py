"""Running a network on changed images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from camcli.audit.candidates import Candidate
from camcli.audit.interventions import Laboratory, elsewhere, grown
from camcli.audit.places import REGIONS, Mask
from camcli.audit.read import read_samples
from camcli.audit.samples import Samples
from camcli.errors import CamcliError
from camcli.images.preprocess import Preset
from camcli.models.model import Model
from camcli.runs.grids import SIDE
from camcli.runs.options import InputOptions
from tests.support.audit import blob, result, tagged_photo, write_heat
from tests.support.networks import RedCorner

PRESET = Preset(resize=None, crop=None, mean=(0, 0, 0), std=(1, 1, 1))
COUNT = 20
CORNER = np.zeros((SIDE, SIDE), bool)
CORNER[:4, -4:] = True


class BlueObject(nn.Module):
    """Takes an image for class 1 if something blue is anywhere in it: the object decides."""

    def forward(self, x: Tensor) -> Tensor:
        blue = nn.functional.avg_pool2d(x[:, 2] - x[:, 0], 6, 1).amax((1, 2))
        return torch.stack([torch.full_like(blue, 0.3), blue], 1)


class Constant(nn.Module):
    """Takes every image for class 1."""

    def forward(self, x: Tensor) -> Tensor:
        return x.new_tensor([0.0, 2.0]).expand(len(x), 2)


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    draw, rows = np.random.default_rng(0), []
    for label, name in enumerate(("plain", "tagged")):
        (tmp_path / name).mkdir()
        for number in range(COUNT):
            image = f"{name}/{number}.png"
            tagged_photo(draw, tagged=bool(label)).save(tmp_path / image)
            facts = {"true_index": label, "predicted_index": label, "class_index": label}
            rows.append(result(image, blob(0.9, 0.1), **facts, predicted_name=name))
    return read_samples(write_heat(tmp_path / "heat", rows))


def _laboratory(samples: Samples, module: nn.Module, **changes: Any) -> Laboratory:
    settings = {
        "samples": samples,
        "model": Model(module, preset=PRESET),
        "inputs": InputOptions(batch_size=7),
        "find": lambda row: samples.folder.parent / row["image"],
    }
    return Laboratory(**settings | changes)


def _candidate(samples: Samples, region: Mask = CORNER) -> Candidate:
    return Candidate(1, None, samples.by_class[1], region, ())


def test_a_shortcut_is_confirmed_by_both(samples: Samples) -> None:
    occlusion, transplant = _laboratory(samples, RedCorner()).tests(_candidate(samples))
    assert (occlusion.name, transplant.name) == ("occlusion", "transplant")
    assert (occlusion.value, transplant.value) == (1, 1)
    assert max(occlusion.control, transplant.control) == 0
    assert occlusion.passed
    assert transplant.passed
    assert occlusion.says.startswith("accuracy 100% becomes 0% with the region occluded, 100%")
    assert "100% with the region of its images" in transplant.says


@pytest.mark.parametrize("module", [BlueObject(), Constant()], ids=lambda m: type(m).__name__)
def test_other_reasons_are_not_confirmed(samples: Samples, module: nn.Module) -> None:
    """An object anywhere is hit by a region in the corner as rarely as by one elsewhere."""
    found = _laboratory(samples, module).tests(_candidate(samples))
    assert not any(test.passed for test in found), found


def test_a_region_elsewhere_is_no_shortcut(samples: Samples) -> None:
    found = _laboratory(samples, RedCorner()).tests(_candidate(samples, REGIONS["centre"]))
    assert not any(test.passed for test in found), found


def test_images_of_another_shape_take_no_region(samples: Samples) -> None:
    for file in (samples.folder.parent / "plain").iterdir():
        with Image.open(file) as photo:
            photo.resize((60, 50)).save(file)
    found = _laboratory(samples, RedCorner()).tests(_candidate(samples))
    assert [test.name for test in found] == ["occlusion"]
    assert found[0].passed


def test_the_network_is_left_as_it_was(samples: Samples) -> None:
    module = RedCorner().train()
    _laboratory(samples, module).tests(_candidate(samples))
    assert module.training


def test_the_same_seed_gives_the_same_numbers(samples: Samples) -> None:
    one, same = (_laboratory(samples, BlueObject()).tests(_candidate(samples)) for _ in range(2))
    assert one == same
    assert one != _laboratory(samples, BlueObject(), seed=5).tests(_candidate(samples))


def test_missing_originals_are_one_line(samples: Samples) -> None:
    with pytest.raises(CamcliError, match=r"originals found of 0 images .*--images"):
        _laboratory(samples, RedCorner(), find=lambda row: None).tests(_candidate(samples))


def test_some_missing_originals_are_left_out(samples: Samples) -> None:
    def find(row: dict[str, Any]) -> Path | None:
        return None if row["image"].endswith("0.png") else samples.folder.parent / row["image"]

    occlusion, _ = _laboratory(samples, RedCorner(), find=find).tests(_candidate(samples))
    assert occlusion.images == COUNT - 2
    assert occlusion.passed


@pytest.mark.parametrize("region", [CORNER, REGIONS["border"]], ids=["corner", "border"])
def test_a_control_is_as_large_and_elsewhere(region: Mask) -> None:
    generator = np.random.default_rng(0)
    found = [elsewhere(region, generator) for _ in range(300)]
    assert all(one.sum() == region.sum() for one in found)
    assert not any((one & region).any() for one in found)
    covered = np.mean(found, 0)[~region]
    assert covered.min() > 0, "it may be anywhere else"


def test_a_control_of_a_large_region_takes_the_rest() -> None:
    region = ~REGIONS["centre"]
    found = elsewhere(region, np.random.default_rng(0))
    np.testing.assert_array_equal(found, ~region)


def test_a_region_grows_by_a_cell_of_the_map() -> None:
    region = np.zeros((SIDE, SIDE), bool)
    region[5, 7] = True
    found = grown(region, 2)
    assert found.sum() == 25
    assert found[3:8, 5:10].all()
    np.testing.assert_array_equal(grown(REGIONS["border"], 4), REGIONS["border"])
