"""`--instances`: rows, names and pictures of each detected box."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from camcli import Model
from camcli.errors import CamcliWarning, OutputError
from camcli.images.find import find
from camcli.runs import pipeline
from camcli.runs.job import Job
from tests.capture.test_detection_oracle import CLASSES, Detector
from tests.support.command import Run, refused, stderr
from tests.support.files import files, make_photo, manifest
from tests.support.jobs import changed, make_job, rows_of

NAMES = ("none", "dog", "a/cat", "crane", "elk")
KEYS = ("labels", "scores", "boxes")
SSD = ("--model", "ssdlite320_mobilenet_v3_large", "--weights", "none")


class Found(Detector):
    """A detector that finds a box less in an image for each class with a score below a half."""

    def boxes(self, activations: torch.Tensor, images: torch.Tensor) -> list[dict[str, Any]]:
        output = super().boxes(activations, images.abs())
        return [{name: of[one["scores"] > 0.5] for name, of in one.items()} for one in output]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job on four photos with different numbers of boxes, of which one has none."""
    found = make_job(tmp_path, {f"{i}.png": (40, 40 + 9 * i) for i in range(4)})
    torch.manual_seed(2)
    net = Found().eval()
    model = Model(net, "tiny", task="detection", num_classes=CLASSES, class_names=NAMES)
    model = replace(model, layer="trunk", preset=found.model.preset)
    inputs = torch.stack([pipeline.load_image(found, one).input for one in found.sources])  # type: ignore[union-attr]
    with torch.no_grad():
        values = net.head(net.trunk(inputs).relu().mean((2, 3)))
        net.head.bias -= values.median(0).values  # each box is one of half of the photos
        values = net.head(net.trunk(inputs).relu().mean((2, 3)))
        net.head.bias -= values[0].clamp(min=0) + 1e-4  # the first photo has none
    return replace(found, model=model, targets=("pred#all",), saves=("overlay", "map"))


def expected(job: Job) -> dict[str, list[tuple[int, float, list[float]]]]:
    """Return label, score and box in input pixels of each box of an image, the best first."""
    found = {}
    for source in job.sources:
        loaded: Any = pipeline.load_image(job, source)
        with torch.no_grad():
            (one,) = job.model.module(loaded.input[None])
        found[source.image] = [*zip(*(one[k].tolist() for k in KEYS), strict=True)]
    return found


def test_each_box_has_a_row_and_files(job: Job) -> None:
    list(pipeline.run(job))
    wanted, rows = expected(job), rows_of(job)
    assert len({len(boxes) for boxes in wanted.values()}) > 2
    assert any(not boxes for boxes in wanted.values())
    for image, boxes in wanted.items():
        if not boxes:
            continue
        assert [row["target"] for row in rows[image]] == [
            f"pred#{number:03d}" for number in range(1, len(boxes) + 1)
        ]
        for row, (label, score, _) in zip(rows[image], boxes, strict=True):
            assert row["class_index"] == label
            assert row["class_name"] == NAMES[label]
            assert row["score"] == pytest.approx(score)
            assert row["probability"] == pytest.approx(score)
            assert row["predicted_index"] == boxes[0][0]
            assert row["confidence"] == pytest.approx(boxes[0][1])
            assert row["map"] == f"{image.removesuffix('.png')}.gradcam.{row['target']}.npy"
            assert (Path(str(job.output)) / row["overlay"]).is_file()


def test_an_image_without_a_box_has_a_row(job: Job) -> None:
    list(pipeline.run(job))
    (image,) = (image for image, boxes in expected(job).items() if not boxes)
    (row,) = rows_of(job)[image]
    assert row["target"] == "pred#"
    assert row["status"] == "empty"
    names = ("class_index", "class_name", "score", "probability", "box", "error")
    assert [row[name] for name in names] == [None] * len(names)
    assert row["map"].endswith(".gradcam.pred#.npy")


def test_at_most_k_boxes_of_a_class(job: Job) -> None:
    list(pipeline.run(replace(job, targets=("dog#2",))))
    for image, boxes in expected(job).items():
        dogs = [box for box in boxes if box[0] == 1][:2]
        targets = [row["target"] for row in rows_of(job)[image]]
        assert targets == [f"dog#{number + 1}" for number in range(len(dogs))] or ["dog#"]


def test_each_picture_shows_its_own_box(job: Job, tmp_path: Path) -> None:
    """The pictures of two boxes differ from their maps alone on the lines of their own box."""
    list(pipeline.run(job))
    other = tmp_path / "bare"
    bare = replace(job.model, module=_Boxless(job.model.module))
    list(pipeline.run(replace(job, model=bare, output=other)))
    several = 0
    for image, rows in rows_of(job).items():
        for row in rows:
            if row["score"] is None:
                continue
            drawn, plain = (
                cv2.imread(str(Path(str(folder)) / row["overlay"])).astype(int)
                for folder in (job.output, other)
            )
            y, x = np.nonzero((drawn != plain).any(2))
            x0, y0, x1, y1 = row["box"]
            assert len(x), image
            assert x.min() >= x0 - 3
            assert x.max() <= x1 + 3
            assert y.min() >= y0 - 3
            assert y.max() <= y1 + 3
            several += 1
    assert several > 3


class _Boxless(torch.nn.Module):
    """The same detector, with boxes outside of the image."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.trunk, self.head, self.net = net.trunk, net.head, net

    def forward(self, images: torch.Tensor) -> Any:
        return [one | {"boxes": one["boxes"] - 1e6} for one in self.net(images)]


def test_a_run_is_repeated_with_the_same_files(job: Job) -> None:
    list(pipeline.run(job))
    before = files(Path(str(job.output)))
    list(pipeline.run(changed(job, skip_existing=True)))
    assert files(Path(str(job.output))) == before
    list(pipeline.run(changed(job, overwrite=True)))
    assert files(Path(str(job.output))) == before


def test_the_boxes_of_an_image_are_those_of_its_last_run(job: Job) -> None:
    list(pipeline.run(replace(job, targets=("pred#all", "pred", "dog"))))
    list(pipeline.run(replace(job, targets=("pred#2",))))
    for image, rows in rows_of(job).items():
        count = min(2, len(expected(job)[image]))
        own = [f"pred#{number + 1}" for number in range(count)] or ["pred#"]
        assert [row["target"] for row in rows] == ["dog", "pred", *own]
    one, other = [source for source in job.sources if expected(job)[source.image]][:2]
    one.path.write_bytes(other.path.read_bytes())
    with pytest.warns(CamcliWarning, match="1 images have new results"):
        list(pipeline.run(replace(job, targets=("pred#2",))))
    for image, rows in rows_of(job).items():
        assert len({row["target"] for row in rows}) == len(rows), image


def test_an_input_is_not_overwritten(job: Job, tmp_path: Path) -> None:
    make_photo(tmp_path / "in" / "x.png")
    make_photo(tmp_path / "in" / "x.gradcam.pred#007.png")
    sources = find([str(tmp_path / "in")])
    with pytest.raises(OutputError, match="is an input and would be written over"):
        list(pipeline.run(replace(job, sources=sources, output=tmp_path / "in")))


def test_the_command(run: Run, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(
        "explain", photo, *SSD, "--instances", "3", "--output", out, "--save", "overlay,panel"
    )
    assert done.exit_code == 0, done.output
    rows = [*manifest(out)]
    assert [row["target"] for row in rows] == ["pred#1", "pred#2", "pred#3"]
    assert all(
        row["box"] and row["class_name"] and (out / row["overlay"]).is_file() for row in rows
    )
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    assert json.loads((out / "run.json").read_text())["targets"] == ["pred#3"]
    assert run("report", out, "--quiet").exit_code == 0
    assert "pred%231" in (out / "report.html").read_text()


def test_auto_is_a_method_that_tells_objects_apart(run: Run, photo: Path, tmp_path: Path) -> None:
    arguments = "explain", photo, *SSD, "--instances", "1", "--output", tmp_path / "out"
    assert "Note: gradcam weights channels by means over all places" in stderr(run(*arguments))
    auto = stderr(run(*arguments, "--method", "auto"))
    assert "--method auto is layercam, for single objects at layer" in auto
    assert "Note: gradcam" not in auto
    assert {row["method"] for row in manifest(tmp_path / "out")} == {"gradcam", "layercam"}


def test_commands_that_refuse_instances(run: Run, photo: Path) -> None:
    message = refused(run("explain", photo, *SSD, "--instances", "2", "--dry-run"))
    assert message.startswith("--dry-run: the files of target 'pred#2' depend on")
    message = refused(run("explain", photo, *SSD, "--instances", "0"))
    assert "'0': expected a number from 1, or all" in message
    message = refused(run("explain", photo, "--instances", "2", "--output", photo.parent / "out"))
    assert message.startswith(
        "target 'pred#2' is for detection networks, which give a box for each"
    )
    assert refused(run("evaluate", photo, "--target", "pred#2")).startswith(
        "target 'pred#2': metrics"
    )
