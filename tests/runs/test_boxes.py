"""`--save boxes`: the boxes of a map in original pixels, in the manifest and in a picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from camcli import Model
from camcli.errors import OutputError
from camcli.images.decode import decode
from camcli.images.find import find
from camcli.images.geometry import Crop
from camcli.images.preprocess import Preset
from camcli.render import draw
from camcli.render.blend import ground
from camcli.render.boxes import BoxRule
from camcli.runs import pipeline
from camcli.runs.job import Job
from camcli.runs.options import InputOptions
from tests.support.jobs import changed

DARK, BRIGHT = (75, 30, 105, 75), (150, 90, 165, 105)
"""The two red patches of the photo."""


class Colours(nn.Module):
    """Scores an image by how red (class 0) and how green (class 1) it is, in cells of 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.Conv2d(3, 3, 8, stride=8, groups=3, bias=False)
        self.fc = nn.Linear(3, 2, bias=False)
        self.pool = nn.AdaptiveAvgPool2d(1)
        with torch.no_grad():
            self.cells.weight.fill_(1 / 64)
            self.fc.weight.copy_(torch.eye(3)[:2])

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.cells(x)).flatten(1))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A photo of 240 x 120 pixels with a large dark and a small bright red patch.

    The network receives the square in its centre.
    """
    pixels = np.zeros((120, 240, 3), np.uint8)
    pixels[30:75, 75:105, 0] = 128
    pixels[90:105, 150:165, 0] = 255
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / "in" / "a.png")
    preset = Preset(64, 64, mean=(0, 0, 0), std=(1, 1, 1))
    return Job(
        sources=find([str(tmp_path / "in")]),
        model=Model(Colours(), preset=preset, num_classes=2),
        methods=("gradcam", "cam"),
        targets=("0",),
        output=tmp_path / "out",
        saves=("overlay", "boxes"),
        inputs=InputOptions(workers=1),
    )


def rows(job: Job) -> dict[str, dict[str, object]]:
    return {row["method"]: row for found in pipeline.run(job) for row in found}


def picture(job: Job, ending: str) -> np.ndarray:
    return decode(job.output / f"a.gradcam.0{ending}")


def test_the_largest_region_in_original_pixels(job: Job) -> None:
    row = rows(job)["gradcam"]
    assert row["crop"] == [60, 0, 180, 120]
    (box,) = row["boxes"]
    assert box == pytest.approx(DARK, abs=8), "half a cell is 7.5 pixels"
    expected = picture(job, ".png").copy()
    assert not np.array_equal(picture(job, ".boxes.png"), expected)
    draw.draw_box(expected, box)
    assert np.array_equal(picture(job, ".boxes.png"), expected), "the overlay with the box"


def test_all_regions(job: Job) -> None:
    both = rows(replace(job, boxes=BoxRule("all")))["gradcam"]["boxes"]
    assert len(both) == 2
    assert both[1] == pytest.approx(BRIGHT, abs=8)
    expected = picture(job, ".png").copy()
    for box in both:
        draw.draw_box(expected, box)
    assert np.array_equal(picture(job, ".boxes.png"), expected)


def test_the_box_of_a_detector_is_drawn_on_the_overlay_only(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Crop, "corners", lambda *_: [70, 4, 170, 24])
    row = rows(job)["gradcam"]
    assert row["box"] == [70, 4, 170, 24]
    upper_edge = (4, slice(70, 170))
    assert (picture(job, ".png")[upper_edge] == 255).all()
    assert not (picture(job, ".boxes.png")[upper_edge] == 255).any()


def test_thresholds_of_methods_and_of_the_option(job: Job) -> None:
    """A value of 0.18 of the maximum is inside the box of Grad-CAM and outside that of CAM."""
    file = job.sources[0].path
    pixels = decode(file).copy()
    pixels[30:75, 75:105, 0] = 46
    Image.fromarray(pixels).save(file)
    found = rows(job)
    assert found["gradcam"]["boxes"][0] == pytest.approx(DARK, abs=8)
    assert found["cam"]["boxes"][0] == pytest.approx(BRIGHT, abs=8)
    found = rows(changed(job, boxes=BoxRule(threshold=0.1), overwrite=True))
    assert found["cam"]["boxes"][0] == pytest.approx(DARK, abs=8)
    found = rows(changed(job, boxes=BoxRule(threshold=0.3), overwrite=True))
    assert found["gradcam"]["boxes"][0] == pytest.approx(BRIGHT, abs=8)


def test_an_empty_map_has_no_box(job: Job) -> None:
    found = rows(replace(job, targets=("1",)))
    assert {row["status"] for row in found.values()} == {"empty"}
    assert [row["boxes"] for row in found.values()] == [[], []]
    drawn, photo = decode(job.output / "a.gradcam.1.boxes.png"), decode(job.sources[0].path)
    assert np.array_equal(drawn[:, 60:180], ground(photo[:, 60:180]))


def test_no_boxes_unless_requested(job: Job) -> None:
    found = rows(replace(job, saves=("overlay",)))
    assert {row["boxes"] for row in found.values()} == {None}
    assert not list(job.output.glob("*.boxes.png"))


@pytest.mark.parametrize("rule", [BoxRule("all"), BoxRule(threshold=0.4)])
def test_boxes_of_another_rule_need_overwrite(job: Job, rule: BoxRule) -> None:
    before = rows(job)
    again = changed(job, boxes=rule, skip_existing=True)
    with pytest.raises(OutputError, match="holds results of another run"):
        next(pipeline.run(again))
    assert rows(changed(job, skip_existing=True)) == before
    rows(changed(job, saves=("overlay",), overwrite=True))
    after = rows(changed(job, skip_existing=True))
    assert after == before, "boxes that an earlier run left out are added"
