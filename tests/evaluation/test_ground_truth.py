"""camcli evaluate --boxes: each metric is its measure on the maps that camcli explain writes."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image

from camcli.errors import AnnotationError
from camcli.evaluation.annotations import Object
from camcli.evaluation.baselines import CONTROLS
from camcli.evaluation.ground_truth import Scene, followed
from camcli.evaluation.localisation import covered, energy, iou, loc, localised, pointing
from camcli.evaluation.metrics import METRICS, ON_TRUTH
from camcli.images.geometry import Crop
from camcli.models.model import Model
from camcli.render.boxes import Map, box_of
from camcli.render.draw import placed
from tests.support.files import manifest
from tests.support.networks import GapNet

Run = Callable[..., Result]
Measure = Callable[[Map, list[Object], float], float]
SIZES = {"a.png": (70, 90), "b.png": (80, 60), "c.png": (66, 66), "d.png": (70, 90)}
BOXES = {  # by photo; "red" and "blue" are of classes 0 to 4 by the class map below
    "a.png": [("red", (4, 6, 40, 50)), ("red", (50, 8, 80, 60)), ("blue", (0, 0, 10, 10))],
    "b.png": [("red", (10, 20, 30, 70)), ("blue", (12, 22, 60, 60))],
    "c.png": [("green", (0, 0, 60, 60))],
}

MEASURES: dict[str, Measure] = {
    "pointing": lambda values, found, _: pointing(values, found),
    "energy": lambda values, found, _: energy(values, found),
    "loc-0": lambda values, found, _: loc(values, found, 0),
    "loc-0.25": lambda values, found, _: loc(values, found, 0.25),
    "loc-0.5": lambda values, found, _: loc(values, found, 0.5),
    "iou": lambda values, found, share: max(
        iou(box_of(values, share) or (0, 0, 0, 0), one.box) for one in found
    ),
    "localised": lambda values, found, share: localised(values, found, share),
    "covered": lambda values, found, share: covered(values, found, share) / len(found),
}


class Blobs(GapNet):
    """Random weights, whose maps differ from photo to photo and class to class."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        for module in (self.trunk[0], self.last[0], self.fc):
            torch.nn.init.normal_(module.weight, std=0.5)
            torch.nn.init.normal_(module.bias, std=0.1)


TINY = ("--model", "tests.evaluation.test_ground_truth:Blobs", "--device", "cpu")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four photos; the third has no object of a class of the model, the fourth no annotation."""
    folder = tmp_path / "in"
    folder.mkdir()
    for i, (name, (height, width)) in enumerate(SIZES.items()):
        pixels = np.random.default_rng(i).integers(0, 255, (5, 5, 3), np.uint8)
        Image.fromarray(pixels).resize((width, height)).save(folder / name)
    rows = [(name, label, *box) for name, objects in BOXES.items() for label, box in objects]
    with (tmp_path / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "class", "x0", "y0", "x1", "y1"), *rows])
    (tmp_path / "all.txt").write_text("red: 0-4\nblue: 4\n")
    return folder


@pytest.fixture
def truth(tmp_path: Path) -> tuple[object, ...]:
    return "--boxes", f"csv:{tmp_path / 'boxes.csv'}", "--class-map", tmp_path / "all.txt"


def scores(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "scores.csv").read_text().splitlines()))


def objects(name: str, label: int) -> list[Object]:
    """By the class map: red is every class, blue the last."""
    classes = {"red": range(5), "blue": [4], "green": []}
    return [Object(word, box) for word, box in BOXES[name] if label in classes[word]]


@pytest.mark.parametrize("target", ["pred", "top2", "4"])
def test_each_metric_is_its_measure_on_the_maps_that_explain_writes(
    target: str, run: Run, photos: Path, truth: tuple[object, ...], tmp_path: Path
) -> None:
    asked = (photos, *TINY, "--method", "gradcam", "--method", "cam", "--target", target)
    out, maps = tmp_path / "quality", tmp_path / "maps"
    assert run("evaluate", *asked, *truth, "--output", out).exit_code == 0
    assert run("explain", *asked, "--save", "map", "--output", maps).exit_code == 0
    found = {(row["image"], row["method"]): row for row in scores(out)}
    rows = [row for row in manifest(maps) if row["image"] in ("a.png", "b.png")]
    assert set(found) == {(n, m) for n in ("a.png", "b.png") for m in ("gradcam", "cam", *CONTROLS)}
    for row in rows:
        values = placed(np.load(maps / row["map"]), Crop(*row["crop"]), SIZES[row["image"]])
        share = 0.2 if row["method"] == "cam" else 0.15
        of_class = objects(row["image"], row["class_index"])
        for name, measure in MEASURES.items():
            value = float(found[row["image"], row["method"]][name])
            expected = measure(values, of_class, share)
            assert value == pytest.approx(float(expected), abs=1e-5), (name, row)


def test_every_metric_on_annotations_is_measured_here() -> None:
    assert set(MEASURES) == set(ON_TRUTH) == {n for n, m in METRICS.items() if m.on_truth}


def test_what_is_skipped_is_counted_by_its_reason(
    run: Run, photos: Path, truth: tuple[object, ...], tmp_path: Path
) -> None:
    (tmp_path / "all.txt").write_text("red: 1\nblue: 2\n")
    (photos / "e.png").write_bytes(b"nothing")
    asked = ("evaluate", photos, *TINY, *truth, "--metric", "pointing", "--target", 2)
    lines = (tmp_path / "boxes.csv").read_text().splitlines()
    kept = [line for line in lines if not line.startswith("b.png,blue")]
    (tmp_path / "boxes.csv").write_text("\n".join([*kept, "e.png,red,1,1,2,2"]))
    found = run(*asked)
    assert found.exit_code == 1, "e.png cannot be read"
    lines = found.stdout_bytes.decode().splitlines()
    assert lines[1].split()[:3] == ["pointing", "higher", "1"]
    assert {
        "1 of 5 images skipped: no object of the class that is followed (--target annotated takes "
        "one that they have)",
        "1 of 5 images skipped: no object of a class of the model",
        "1 of 5 images failed",
        f"1 of 5 images skipped: not annotated (d.png: no row for it in {tmp_path}/boxes.csv)",
    } <= set(lines)
    record = json.loads(run(*asked, "--json").stdout_bytes)
    assert record["images"] == 1
    assert record["failed"] == [
        {"image": "e.png", "reason": f"{photos}/e.png: not an image that Pillow can read"}
    ]
    assert [row["image"] for row in record["skipped"]] == ["b.png", "c.png", "d.png"]
    assert record["boxes"] == f"csv:{tmp_path / 'boxes.csv'}"
    none = run(*asked[:-1], 3)
    assert (none.exit_code, none.stdout_bytes) == (1, b""), "as one failed"
    assert "not one image could be measured; 2 of 5 images" in none.stderr_bytes.decode()
    (photos / "e.png").unlink()
    none = run(*asked[:-1], 3)
    assert none.exit_code == 2
    assert "not one image could be measured; 2 of 4 images" in none.stderr_bytes.decode()


def test_annotated_is_the_best_class_that_the_photo_has(
    run: Run, photos: Path, truth: tuple[object, ...], tmp_path: Path
) -> None:
    (tmp_path / "all.txt").write_text("red: 2, 3\nblue: 4\n")
    for name in ("annotated", *range(5)):
        asked = ("evaluate", photos, *TINY, *truth, "--target", name, "--metric", "energy")
        run(*asked, "--metric", "complexity", "--output", tmp_path / str(name))
    chosen = {row["image"]: row for row in scores(tmp_path / "annotated")}
    assert set(chosen) == {"a.png", "b.png"}
    others = [row for label in (2, 3, 4) for row in scores(tmp_path / str(label))]
    for image, row in chosen.items():
        best = max(float(one["probability"]) for one in others if one["image"] == image)
        assert float(row["probability"]) == pytest.approx(best, abs=1e-5)
    assert len({row["class_index"] for row in others}) == 3


def test_classes_of_too_few_objects_do_not_count(
    run: Run, photos: Path, truth: tuple[object, ...], tmp_path: Path
) -> None:
    """a.png has two red ones and a blue one, b.png one of each."""
    (tmp_path / "all.txt").write_text("red: 2, 3\nblue: 4\n")
    asked = ("evaluate", photos, *TINY, *truth, "--objects", 2)
    record = json.loads(run(*asked, "--target", "annotated", "--json").stdout_bytes)
    assert (record["images"], record["objects"]) == (1, 2)
    reasons = {row["image"]: row["reason"] for row in record["skipped"]}
    assert reasons["b.png"] == "fewer objects of the class than --objects asks for"
    assert [*reasons] == ["b.png", "c.png", "d.png"]
    lines = run(*asked, "--target", 2).stdout_bytes.decode().splitlines()
    assert "objects 2, fit preset" in lines[-1]
    blue = run(*asked, "--target", 4)
    assert blue.exit_code == 2, "of which there is one in each"
    assert b"2 of 4 images skipped: fewer objects of the class" in blue.stderr_bytes
    alone = run("evaluate", photos, *TINY, "--objects", 2)
    assert alone.stderr_bytes == b"Error: --objects 2 counts annotated ones: give --boxes\n"


def test_difficult_objects_do_not_count(run: Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "voc").mkdir()
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>20</ymax></bndbox>"
    for name, mark in (("a", 0), ("b", 1)):
        text = f"<a><object><name>3</name><difficult>{mark}</difficult>{box}</object></a>"
        (tmp_path / "voc" / f"{name}.xml").write_text(text)
    (tmp_path / "map.txt").write_text("3: 0-4\n")
    truth = ("--boxes", f"voc:{tmp_path / 'voc'}", "--class-map", tmp_path / "map.txt")
    record = json.loads(run("evaluate", photos, *TINY, *truth, "--json").stdout_bytes)
    assert list(record["metrics"]) == list(ON_TRUTH)
    assert record["images"] == 1
    assert [row["image"] for row in record["skipped"]] == ["b.png", "c.png", "d.png"]
    assert record["skipped"][0]["reason"] == "only objects that are marked as difficult"


def test_means_over_classes_and_top1(
    run: Run, photos: Path, truth: tuple[object, ...], tmp_path: Path
) -> None:
    """a.png and c.png are explained for what is red or green, b.png for the last class."""
    (tmp_path / "all.txt").write_text("red: 2\nblue: 3\ngreen: 2\n")
    asked = ("evaluate", photos, *TINY, *truth, "--target", "annotated", "--output", tmp_path / "o")
    metrics = ("--metric", "pointing", "--metric", "localised")
    record = json.loads(run(*asked, *metrics, "--json").stdout_bytes)
    images: dict[str, list[float]] = {"red": [], "blue": [], "green": []}
    for row in scores(tmp_path / "o"):
        if row["method"] == "centre":
            objects = {label for label, _ in BOXES[row["image"]]}
            (label,) = objects & ({"red", "green"} if row["class_index"] == "2" else {"blue"})
            images[label].append(float(row["pointing"]))
    means = [np.mean(values) for values in images.values() if values]
    assert record["metrics"]["pointing"]["by_class"]["centre"] == pytest.approx(np.mean(means))
    assert f"pointing, mean over {len(means)} classes: " in "".join(record["remarks"])
    assert record["top1"] is None, "another class than the best may be explained"
    (tmp_path / "all.txt").write_text("red: 0-4\nblue: 3\ngreen: 4\n")
    best = json.loads(run(*asked, *metrics, "--target", "pred", "--json").stdout_bytes)
    whole = best["metrics"]["localised"]["rows"]["centre"]
    assert (best["images"], whole["images"]) == (2, 2)
    assert [row["image"] for row in best["skipped"]] == ["c.png", "d.png"]
    assert whole["mean"] > 0
    assert best["top1"]["centre"] == pytest.approx(whole["mean"] * 2 / 3), "c.png is a miss"


def test_a_class_beyond_the_networks_is_refused() -> None:
    """Of a network whose classes nobody has counted, so that a class map may name any."""
    model = Model(GapNet(), name="mine")
    scene = Scene((9, 9), Crop(0, 0, 9, 9), {7: (Object("dog", (0, 0, 1, 1)),)})
    with pytest.raises(AnnotationError, match="class 7 of the annotations: mine has 5 classes"):
        followed(model, "annotated", torch.zeros(1, 3, 20, 20), [scene])


def test_photos_of_one_name_are_refused(
    run: Run, photos: Path, truth: tuple[object, ...], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (photos / "a.png").rename(other / "a.webp")
    Image.new("RGB", (90, 70)).save(photos / "a.png")
    found = run("evaluate", photos, other, *TINY, *truth)
    assert found.exit_code == 2
    (line,) = found.stderr_bytes.decode().splitlines()
    assert f"'{photos}/a.png' and '{other}/a.webp' would have the same annotations" in line


def test_a_broken_annotation_is_one_line_and_the_rest_goes_on(
    run: Run, photos: Path, truth: tuple[object, ...], tmp_path: Path
) -> None:
    lines = (tmp_path / "boxes.csv").read_text()
    (tmp_path / "boxes.csv").write_text(lines + "b.png,red,1,1,much,2\n")
    found = run("evaluate", photos, *TINY, *truth, "--json")
    assert found.exit_code == 1
    (line,) = found.stderr_bytes.decode().splitlines()
    assert "boxes.csv, line 8: expected image,class,x0,y0,x1,y1" in line
    record = json.loads(found.stdout_bytes)
    assert record["images"] == 1
    assert "1 of 4 images skipped: wrong annotation" in record["remarks"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--metric", "deletion", "--metric", "iou"), "metric 'iou' holds maps against"),
        (("--target", "annotated"), "target 'annotated' needs annotations: expected --boxes"),
        (("--class-map", "classes.txt"), "--class-map says what --boxes are of"),
        (("--boxes", "boxes.csv"), "annotations 'boxes.csv': expected FORMAT:PATH"),
        (("--boxes", "yolo:."), "the model has no class names to know an annotation's classes by"),
        (("--boxes", "csv:no.csv", "--class-map", "all.txt"), "no.csv: No such file"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: tuple[str, ...],
    message: str,
    run: Run,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    found = run("evaluate", photos, *TINY, *arguments)
    assert found.exit_code == 2
    (line,) = found.stderr_bytes.decode().splitlines()
    assert line.startswith("Error: ")
    assert message in line
