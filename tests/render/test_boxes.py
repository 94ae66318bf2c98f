"""`--save boxes`: the boxes of a map in pixels of the original, drawn and told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from torch import Tensor, nn

from camcli import Model
from camcli.errors import MethodError, OutputError
from camcli.images.decode import decode
from camcli.images.find import find
from camcli.images.geometry import Crop
from camcli.images.preprocess import Preset
from camcli.render import draw
from camcli.render.boxes import BoxRule
from camcli.runs import pipeline
from camcli.runs.job import Job
from tests.support.files import SAMPLES, make_photo, manifest
from tests.support.networks import GapNet

TINY = ("--model", "squeezenet1_1", "--weights", "none", "--device", "cpu", "--quiet")


class Red(nn.Module):
    """Class 0 is how red an image is, class 1 how green, seen in squares of 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Conv2d(3, 3, 8, stride=8, groups=3, bias=False)
        self.fc = nn.Linear(3, 2, bias=False)
        self.pool = nn.AdaptiveAvgPool2d(1)
        with torch.no_grad():
            self.see.weight.fill_(1 / 64)
            self.fc.weight.copy_(torch.eye(3)[:2])

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.see(x)).flatten(1))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A photo of 240 x 120 of which the network sees the middle square, with two red patches in it:
    a large dark one on the left, a small bright one on the right."""
    pixels = np.zeros((120, 240, 3), np.uint8)
    pixels[30:75, 75:105, 0] = 128
    pixels[90:105, 150:165, 0] = 255
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / "in" / "a.png")
    preset = Preset(64, 64, mean=(0, 0, 0), std=(1, 1, 1))
    return Job(
        sources=find([str(tmp_path / "in")]),
        model=Model(Red(), preset=preset, num_classes=2),
        methods=("gradcam", "cam"),
        targets=("0",),
        output=tmp_path / "out",
        saves=("overlay", "boxes"),
        workers=1,
    )


def rows(job: Job) -> dict[str, dict[str, object]]:
    return {row["method"]: row for found in pipeline.run(job) for row in found}


def drawn(job: Job, ending: str) -> np.ndarray:
    return decode(job.output / f"a.gradcam.0{ending}")


def test_the_largest_region_in_pixels_of_the_original(job: Job) -> None:
    row = rows(job)["gradcam"]
    assert row["crop"] == [60, 0, 180, 120]
    (box,) = row["boxes"]
    assert box == pytest.approx((75, 30, 105, 75), abs=8), "half a cell is 7.5 pixels"
    picture, overlay = drawn(job, ".boxes.png"), drawn(job, ".png")
    framed = overlay.copy()
    draw.draw_box(framed, box)
    assert np.array_equal(picture, framed), "the overlay with the box"
    assert not np.array_equal(picture, overlay)


def test_all_regions(job: Job) -> None:
    both = rows(replace(job, boxes=BoxRule("all")))["gradcam"]["boxes"]
    assert len(both) == 2
    assert both[1] == pytest.approx((150, 90, 165, 105), abs=8)
    framed = drawn(job, ".png").copy()
    for box in both:
        draw.draw_box(framed, box)
    assert np.array_equal(drawn(job, ".boxes.png"), framed)


def test_a_detectors_own_box_is_on_the_overlay_alone(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Crop, "corners", lambda *_: [70, 4, 170, 24])
    row = rows(job)["gradcam"]
    assert row["box"] == [70, 4, 170, 24]
    upper_edge = (4, slice(70, 170))
    assert (drawn(job, ".png")[upper_edge] == 255).all()
    assert not (drawn(job, ".boxes.png")[upper_edge] == 255).any()


def test_thresholds(job: Job) -> None:
    """A value of 0.18 of the maximum is in Grad-CAM's box and not in CAM's."""
    file = job.sources[0].path
    pixels = decode(file).copy()
    pixels[30:75, 75:105, 0] = 46
    Image.fromarray(pixels).save(file)
    found = rows(job)
    left, right = (75, 30, 105, 75), (150, 90, 165, 105)
    assert found["gradcam"]["boxes"][0] == pytest.approx(left, abs=8)
    assert found["cam"]["boxes"][0] == pytest.approx(right, abs=8)
    found = rows(replace(job, boxes=BoxRule(threshold=0.1), overwrite=True))
    assert found["cam"]["boxes"][0] == pytest.approx(left, abs=8)
    found = rows(replace(job, boxes=BoxRule(threshold=0.3), overwrite=True))
    assert found["gradcam"]["boxes"][0] == pytest.approx(right, abs=8)


def test_an_empty_map_has_no_box(job: Job) -> None:
    found = rows(replace(job, targets=("1",)))
    assert {row["status"] for row in found.values()} == {"empty"}
    assert [row["boxes"] for row in found.values()] == [[], []]
    picture, photo = decode(job.output / "a.gradcam.1.boxes.png"), decode(job.sources[0].path)
    assert np.array_equal(picture[:, 60:180], photo[:, 60:180])


def test_no_boxes_unless_asked_for(job: Job) -> None:
    found = rows(replace(job, saves=("overlay",)))
    assert {row["boxes"] for row in found.values()} == {None}
    assert not list(job.output.glob("*.boxes.png"))


def test_images_have_no_boxes(tmp_path: Path) -> None:
    make_photo(tmp_path / "a.jpg")
    job = Job(
        sources=find([str(tmp_path / "a.jpg")]),
        model=Model(GapNet(), preset=Preset(40, 32), num_classes=5),
        methods=("gradcam", "guided"),
        targets=("pred",),
        output=tmp_path / "out",
        saves=("boxes",),
    )
    with pytest.raises(MethodError, match="'guided' gives images, and only maps have boxes"):
        job.check()
    replace(job, saves=("overlay",)).check()


@pytest.mark.parametrize("rule", [BoxRule("all"), BoxRule(threshold=0.4)])
def test_a_folder_has_one_kind_of_boxes(job: Job, rule: BoxRule) -> None:
    before = rows(job)
    again = replace(job, boxes=rule, skip_existing=True)
    with pytest.raises(OutputError, match="holds results of another run"):
        again.check()
    assert rows(replace(job, skip_existing=True)) == before
    rows(replace(job, saves=("overlay",), overwrite=True))
    after = rows(replace(job, skip_existing=True))
    assert after == before, "boxes that were not asked for before are made now"


def test_a_map_is_placed_where_it_was_seen() -> None:
    values = np.array([[-1, 0], [0, 2]], np.float32)
    found = draw.place_map(values, Crop(10, 0, 30, 20), (20, 40))
    assert found.shape == (20, 40)
    assert not found[:, :10].any()
    assert not found[:, 30:].any()
    assert (found[0, 10], found[-1, 29]) == (0, 1)


def command(run: Callable[..., Result], *arguments: object) -> Result:
    return run("explain", SAMPLES / "dog.jpg", *TINY, *arguments)


def test_the_command(run: Callable[..., Result], tmp_path: Path) -> None:
    arguments: Sequence[object] = ("--save", "boxes", "--boxes", "all", "--output", tmp_path)
    found = run("explain", SAMPLES / "dog.jpg", *TINY[:-1], *arguments, "--box-threshold", 0.5)
    assert found.exit_code == 0
    (row,) = manifest(tmp_path)
    assert row["boxes"]
    told = "".join(f"  box {x0},{y0},{x1},{y1}" for x0, y0, x1, y1 in row["boxes"])
    assert found.stdout_bytes.decode().rstrip().endswith(told)
    assert (tmp_path / "dog.gradcam.boxes.png").exists()
    dry = run("explain", SAMPLES / "dog.jpg", "--save", "boxes", "--dry-run", "--output", "o")
    assert dry.stdout_bytes.decode().endswith("dog.jpg -> o/dog.gradcam.boxes.png\n")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--boxes", "larg"), b"unknown choice of boxes 'larg': did you mean 'largest'"),
        (("--box-threshold", 1), b"box threshold 1.0: expected a share of the map's maximum"),
        (("--method", "guided", "--save", "boxes"), b"'guided' gives images, and only maps have"),
    ],
)
def test_refusals(
    arguments: Sequence[object], reason: bytes, run: Callable[..., Result], tmp_path: Path
) -> None:
    found = command(run, *arguments, "--output", tmp_path / "out")
    assert found.exit_code == 2
    assert reason in found.stderr_bytes
    assert not (tmp_path / "out").exists()
